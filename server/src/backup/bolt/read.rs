//! Reading a bbolt file, ours or of a real etcd, without trusting it: lengths, places and page numbers are checked
//! before they are used, no page is read twice in one pass (so there is no cycle), and keys must ascend. What is wrong is
//! refused with the number of the page. Of a file the tree of the newest valid meta page is read, page by page; the
//! list of free pages is of no interest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{
    BRANCH_FLAG, BUCKET_FLAG, ELEMENT_BYTES, HEADER_BYTES, LEAF_FLAG, MAGIC, META_FLAG, VERSION, fnv_1a,
};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no valid meta page: this is no database of etcd, or its first pages are damaged")]
    Meta,
    #[error("page {page}: {what}")]
    Page { page: u64, what: &'static str },
}

/// A file of a database.
pub(crate) struct Reader {
    file: File,
    page_bytes: u64,
    root: u64,
    /// All pages in use have lower numbers.
    pages: u64,
}

/// What is met on the way through a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met<'a> {
    /// A bucket begins.
    Bucket(&'a [u8]),
    /// A record of the bucket begun last.
    Record(&'a [u8], &'a [u8]),
}

impl Reader {
    /// Opens the database in the first `bytes` bytes of a file.
    pub(crate) fn open(path: &Path, bytes: u64) -> Result<Reader, ReadError> {
        let file = File::open(path)?;
        let first = meta_at(&file, 0)?;
        // The second copy lies a page further on, and without the first one nothing says how long a page is.
        let sizes = match &first {
            Some(meta) => vec![meta.page_bytes],
            None => (PAGE_SHIFT_MIN..=PAGE_SHIFT_MAX)
                .map(|shift| 1 << shift)
                .collect(),
        };
        let mut newest = first;
        for page_bytes in sizes {
            let second = meta_at(&file, page_bytes)?.filter(|meta| meta.page_bytes == page_bytes);
            if let Some(second) = second
                && newest
                    .as_ref()
                    .is_none_or(|first| first.transaction < second.transaction)
            {
                newest = Some(second);
            }
        }
        let meta = newest.ok_or(ReadError::Meta)?;
        let whole = meta.pages.checked_mul(meta.page_bytes);
        if whole.is_none_or(|whole| whole > bytes) {
            return Err(damaged(meta.pages, "the file ends before the last page in use"));
        }
        Ok(Reader {
            file,
            page_bytes: meta.page_bytes,
            root: meta.root,
            pages: meta.pages,
        })
    }

    /// Bytes of all pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// Shows every bucket and every record, in order.
    pub(crate) fn walk<E: From<ReadError>>(
        &self,
        visit: &mut dyn FnMut(Met<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pass = Pass {
            reader: self,
            used: vec![0; usize::try_from(self.pages.div_ceil(64)).unwrap_or(usize::MAX)],
        };
        pass.tree(self.root, &mut |pass, element| {
            if element.flags & BUCKET_FLAG == 0 {
                return Err(damaged(element.page, "there is a record among the buckets").into());
            }
            visit(Met::Bucket(element.key))?;
            let mut record = |_: &mut Pass<'_>, element: Element<'_>| {
                if element.flags & BUCKET_FLAG != 0 {
                    return Err(damaged(element.page, "there is a bucket among the records").into());
                }
                visit(Met::Record(element.key, element.value))
            };
            let (root, inline) = bucket(&element)?;
            match root {
                0 => {
                    let mut last = None;
                    let node = Node {
                        page: element.page,
                        bytes: inline,
                    };
                    if node.flags() != LEAF_FLAG {
                        return Err(damaged(element.page, "an inline bucket is no leaf").into());
                    }
                    pass.leaf(&node, &mut last, &mut record)
                }
                root => pass.tree(root, &mut record),
            }
        })
    }

    /// The node that begins on a page, all of it.
    fn node(&self, page: u64) -> Result<(Vec<u8>, u64), ReadError> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, page * self.page_bytes)?;
        let head = Node { page, bytes: &header };
        if head.number(0, 8)? != page {
            return Err(damaged(page, "it has the number of another page"));
        }
        if !matches!(head.flags(), BRANCH_FLAG | LEAF_FLAG) {
            return Err(damaged(page, "it is no node of a tree"));
        }
        let overflow = head.number(12, 4)?;
        if overflow >= self.pages - page {
            return Err(damaged(page, "it goes on behind the last page"));
        }
        let bytes = (overflow + 1) * self.page_bytes;
        if bytes > NODE_BYTES_MAX {
            return Err(damaged(page, "it is longer than any node can be"));
        }
        let mut node = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut node, page * self.page_bytes)?;
        Ok((node, overflow))
    }
}

/// Is shown the elements of a tree's leaves.
type Show<'s, E> = &'s mut dyn FnMut(&mut Pass<'_>, Element<'_>) -> Result<(), E>;

/// One way through the file.
struct Pass<'a> {
    reader: &'a Reader,
    /// A bit for each page that was met.
    used: Vec<u64>,
}

impl Pass<'_> {
    fn tree<E: From<ReadError>>(&mut self, root: u64, show: Show<'_, E>) -> Result<(), E> {
        let mut last = None;
        self.subtree(root, DEPTH_MAX, &mut last, show)
    }

    /// Goes through what is below a page. Keys must come after `last`, which keeps up.
    fn subtree<E: From<ReadError>>(
        &mut self,
        page: u64,
        depth_left: usize,
        last: &mut Option<Vec<u8>>,
        show: Show<'_, E>,
    ) -> Result<(), E> {
        let Some(depth_left) = depth_left.checked_sub(1) else {
            return Err(damaged(page, "the tree is deeper than any can be").into());
        };
        self.take(page, 1)?;
        let (bytes, overflow) = self.reader.node(page)?;
        self.take(page + 1, overflow)?;
        let node = Node { page, bytes: &bytes };
        if node.flags() == LEAF_FLAG {
            return self.leaf(&node, last, show);
        }
        if node.count() == 0 {
            return Err(damaged(page, "a branch without children").into());
        }
        for at in 0..node.count() {
            let child = node.number(HEADER_BYTES + at * ELEMENT_BYTES + 8, 8)?;
            self.subtree(child, depth_left, last, show)?;
        }
        Ok(())
    }

    fn leaf<E: From<ReadError>>(
        &mut self,
        node: &Node<'_>,
        last: &mut Option<Vec<u8>>,
        show: Show<'_, E>,
    ) -> Result<(), E> {
        for at in 0..node.count() {
            let element = node.element(at)?;
            match last {
                Some(last) if last.as_slice() >= element.key => {
                    return Err(damaged(node.page, "its keys are not in order").into());
                }
                Some(last) => {
                    last.clear();
                    last.extend_from_slice(element.key);
                }
                None => *last = Some(element.key.to_vec()),
            }
            show(self, element)?;
        }
        Ok(())
    }

    /// Notes that pages are met, for the first time.
    fn take(&mut self, first: u64, count: u64) -> Result<(), ReadError> {
        if count > 0 && (first < META_PAGES || first >= self.reader.pages) {
            return Err(damaged(first, "no node can be there, but one refers to it"));
        }
        // How far a node goes on was checked when it was read.
        for page in first..first + count {
            let word = usize::try_from(page / 64)
                .ok()
                .and_then(|at| self.used.get_mut(at));
            let bit = 1 << (page % 64);
            match word {
                Some(word) if *word & bit == 0 => *word |= bit,
                _ => return Err(damaged(page, "it is used twice")),
            }
        }
        Ok(())
    }
}

/// A node's bytes.
struct Node<'a> {
    page: u64,
    bytes: &'a [u8],
}

/// An element of a leaf.
#[derive(Clone, Copy)]
struct Element<'a> {
    page: u64,
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Node<'a> {
    fn number(&self, at: usize, width: usize) -> Result<u64, ReadError> {
        number(self.bytes, at, width).ok_or_else(|| damaged(self.page, SHORT))
    }

    fn flags(&self) -> u16 {
        number(self.bytes, 8, 2)
            .and_then(|flags| u16::try_from(flags).ok())
            .unwrap_or(0)
    }

    fn count(&self) -> usize {
        number(self.bytes, 10, 2)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0)
    }

    fn element(&self, at: usize) -> Result<Element<'a>, ReadError> {
        let begin = HEADER_BYTES + at * ELEMENT_BYTES;
        let short = || damaged(self.page, SHORT);
        let length = |at: usize| {
            let length = self.number(begin + at, 4)?;
            usize::try_from(length).map_err(|_| short())
        };
        let (position, key_bytes, value_bytes) = (length(4)?, length(8)?, length(12)?);
        let key_at = begin.checked_add(position).ok_or_else(short)?;
        let value_at = key_at.checked_add(key_bytes).ok_or_else(short)?;
        let end = value_at.checked_add(value_bytes).ok_or_else(short)?;
        Ok(Element {
            page: self.page,
            flags: u32::try_from(self.number(begin, 4)?).unwrap_or(u32::MAX),
            key: self.bytes.get(key_at..value_at).ok_or_else(short)?,
            value: self.bytes.get(value_at..end).ok_or_else(short)?,
        })
    }
}

/// A bucket's root page; where that is 0, what follows is its only leaf.
fn bucket<'a>(element: &Element<'a>) -> Result<(u64, &'a [u8]), ReadError> {
    let short = || damaged(element.page, SHORT);
    let root = number(element.value, 0, 8).ok_or_else(short)?;
    let inline = element.value.get(BUCKET_BYTES..).ok_or_else(short)?;
    if root == 0 && inline.len() < HEADER_BYTES {
        return Err(short());
    }
    Ok((root, inline))
}

/// What a meta page says.
struct Meta {
    page_bytes: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// The meta page at an offset, if there is a valid one.
fn meta_at(file: &File, offset: u64) -> Result<Option<Meta>, io::Error> {
    let mut bytes = [0; HEADER_BYTES + META_BYTES];
    match file.read_exact_at(&mut bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(meta(&bytes))
}

fn meta(bytes: &[u8]) -> Option<Meta> {
    let (header, meta) = bytes.split_at_checked(HEADER_BYTES)?;
    let flags = number(header, 8, 2)?;
    let (signed, _) = meta.split_at_checked(META_BYTES - 8)?;
    let sound = flags == u64::from(META_FLAG)
        && number(meta, 0, 4)? == u64::from(MAGIC)
        && number(meta, 4, 4)? == u64::from(VERSION)
        && number(meta, META_BYTES - 8, 8)? == fnv_1a(signed);
    let page_bytes = number(meta, 8, 4)?;
    let fits = page_bytes.is_power_of_two()
        && (PAGE_SHIFT_MIN..=PAGE_SHIFT_MAX).contains(&page_bytes.trailing_zeros());
    (sound && fits).then_some(Meta {
        page_bytes,
        root: number(meta, 16, 8)?,
        pages: number(meta, 40, 8)?,
        transaction: number(meta, 48, 8)?,
    })
}

/// Makes the sums of both meta pages right, whatever is in them.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::backup) fn resign(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(4096).take(2) {
        let Some(meta) = page.get_mut(HEADER_BYTES..HEADER_BYTES + META_BYTES) else {
            return;
        };
        let (signed, sum) = meta.split_at_mut(META_BYTES - 8);
        sum.copy_from_slice(&fnv_1a(signed).to_le_bytes());
    }
}

/// A little-endian number of `width` bytes, at most 8.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let taken = bytes.get(at..at.checked_add(width)?)?;
    Some(
        taken
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

fn damaged(page: u64, what: &'static str) -> ReadError {
    ReadError::Page { page, what }
}

const SHORT: &str = "something in it goes beyond its end";
/// Pages 0 and 1 hold no node.
const META_PAGES: u64 = 2;
const META_BYTES: usize = 64;
/// Before what a bucket's element holds inline.
const BUCKET_BYTES: usize = 16;
/// The page sizes that machines have.
const PAGE_SHIFT_MIN: u32 = 9;
const PAGE_SHIFT_MAX: u32 = 24;
/// With two children at least to each branch, 2^40 leaves; bbolt's trees are far flatter.
const DEPTH_MAX: usize = 40;
/// A node is longer than a page only for what one record takes; requests are at most 2 GiB.
const NODE_BYTES_MAX: u64 = 1 << 31;

#[cfg(test)]
mod tests;
