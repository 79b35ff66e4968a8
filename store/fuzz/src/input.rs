//! Inputs: bytes, taken from the front. What is missing reads as zero, so that every input means something.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// The next two bytes as a number.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes as a number.
    pub fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// So many bytes, or what there is.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece that names its length in front; `None` at the end.
    pub fn piece(&mut self) -> Option<&'a [u8]> {
        if self.is_empty() {
            return None;
        }
        let len = usize::from(self.word());
        Some(self.bytes(len))
    }

    /// The rest.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Adds a piece as [`Input::piece`] reads it; one that is too long for a length of two bytes is cut.
pub fn push_piece(into: &mut Vec<u8>, piece: &[u8]) {
    let len = u16::try_from(piece.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&piece[..usize::from(len)]);
}
