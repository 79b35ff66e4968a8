//! Targets without libFuzzer: the same inputs every time, out of a seed. It finds less in an hour than coverage does in a
//! minute, but it needs nothing, and it holds what was found once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to go on after the given inputs.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// So many mutations.
    Inputs(u64),
    /// Mutations for so long.
    Time(Duration),
}

impl Budget {
    /// What the variable `FUZZ_SECONDS` says, or else so many mutations.
    #[must_use]
    pub fn from_env(inputs: u64) -> Budget {
        let seconds = std::env::var("FUZZ_SECONDS")
            .ok()
            .and_then(|text| text.parse().ok());
        seconds.map_or(Budget::Inputs(inputs), |seconds| {
            Budget::Time(Duration::from_secs(seconds))
        })
    }
}

/// Judges the given inputs, those in the files of `found`, and mutations of all of them. Returns how many there were.
///
/// # Panics
/// Where an input does: its bytes are printed before.
pub fn replay(given: Vec<Vec<u8>>, found: &Path, budget: Budget, one_input: impl Fn(&[u8])) -> u64 {
    let mut inputs = given;
    let mut files: Vec<_> = match std::fs::read_dir(found) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    inputs.extend(files.iter().filter_map(|path| std::fs::read(path).ok()));
    assert!(!inputs.is_empty(), "no input to begin with");
    let judge = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one_input(input))) {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("the input of {} bytes: {hex}", input.len());
            resume_unwind(panic);
        }
    };
    inputs.iter().for_each(|input| judge(input));
    let began = Instant::now();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut count = 0;
    loop {
        let over = match budget {
            Budget::Inputs(inputs) => count >= inputs,
            Budget::Time(time) => began.elapsed() >= time,
        };
        if over {
            return inputs.len() as u64 + count;
        }
        judge(&mutate(&inputs, &mut random));
        count += 1;
    }
}

/// Writes seeds to a folder, one file each. Returns how many bytes they are.
///
/// # Errors
/// Those of the file system.
pub fn write_seeds(seeds: &[Vec<u8>], folder: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(seeds.iter().map(Vec::len).sum())
}

/// One of the inputs with a few changes.
fn mutate(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 => input.insert(at, random.byte()),
            1 => input.truncate(at),
            2 => {
                let end = (at + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            3 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                let other = &inputs[random.below(inputs.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            5 if at < input.len() => input[at] ^= 1 << random.below(8),
            6 if at < input.len() => input[at] = EDGES[random.below(EDGES.len())],
            _ if at < input.len() => input[at] = random.byte(),
            _ => input.push(random.byte()),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// A xorshift generator: the inputs are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
}

/// Bytes at which formats change their mind.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\\', b'"', b'%'];
/// No input grows beyond this.
const INPUT_BYTES_MAX: usize = 64 << 10;
