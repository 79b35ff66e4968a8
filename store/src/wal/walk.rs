//! Showing a log record by record, in little memory and without changing anything: for inspection, also beside a
//! running member.
//!
//! Shown is the log that survived: an entry that a later one replaced (or that a restart dropped) is left out, so indexes
//! ascend and the entries shown last are those that the member would start with. Hard states are shown where they stand
//! among them. It takes two passes: the first finds where the log was cut back, which is seldom, the second shows.

use std::path::Path;

use super::record::Record;
use super::replay::{Log, Reader, Torn};
use super::{Config, Damage, HardState, Metadata, Position, WalError, segment};
use crate::env::Disk;
use crate::types::{Index, Term};

/// A record of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logged<'a> {
    /// The log begins: whose it is, and the position before its first entry.
    Begin {
        /// Whose log it is.
        metadata: Metadata,
        /// The last position that the removed part had.
        before: Position,
    },
    /// An entry.
    Entry {
        /// Raft's entry type.
        kind: u8,
        /// Its term.
        term: Term,
        /// Its position.
        index: Index,
        /// Its content.
        data: &'a [u8],
    },
    /// A hard state.
    HardState(HardState),
    /// A snapshot from the leader took the place of the log up to here.
    Restart(Position),
}

/// Shows what survived of the log in `dir`, until `visit` returns false. Where the log is damaged, everything before
/// the damage is shown first.
///
/// # Errors
/// As reading the log. Beside a running member also where it lets go of the oldest segment meanwhile.
pub fn walk(
    disk: &dyn Disk,
    dir: &Path,
    config: &Config,
    visit: &mut dyn FnMut(Logged<'_>) -> bool,
) -> Result<Option<Torn>, WalError> {
    let mut survey = Survey::default();
    let ended = pass(disk, dir, config, &mut |record| {
        survey.take(record);
        true
    });
    survey.close();
    let mut place = Survey::default();
    let mut begun = None::<HardState>;
    let mut wanted = true;
    let shown = pass(disk, dir, config, &mut |record| {
        // What a running member has added since the first pass may replace what is shown already.
        if place.records == survey.records {
            return false;
        }
        wanted = show(record, &mut begun, survey.spares(place.records, record), visit);
        place.take(record);
        wanted
    });
    if !wanted {
        return Ok(None);
    }
    match (ended, shown) {
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) if place.records < survey.records => Err(error),
        (Ok(torn), _) => Ok(torn),
    }
}

/// Shows one record, if there is anything to be shown of it.
fn show(
    record: &Record<'_>,
    begun: &mut Option<HardState>,
    survives: bool,
    visit: &mut dyn FnMut(Logged<'_>) -> bool,
) -> bool {
    match *record {
        Record::State(state) => {
            // Later ones repeat what was said already, unless a crash lost a part of it.
            let first = begun.is_none();
            let known = begun.unwrap_or_default();
            *begun = Some(state.hard_state);
            let metadata = state.metadata;
            let before = state.last;
            (!first || visit(Logged::Begin { metadata, before }))
                && (known == state.hard_state || visit(Logged::HardState(state.hard_state)))
        }
        Record::HardState(hard_state) => {
            *begun = Some(hard_state);
            visit(Logged::HardState(hard_state))
        }
        Record::Restart(at) => visit(Logged::Restart(at)),
        Record::Entry {
            kind,
            term,
            index,
            data,
        } => {
            !survives
                || visit(Logged::Entry {
                    kind,
                    term,
                    index,
                    data,
                })
        }
    }
}

/// Reads the log once.
fn pass(
    disk: &dyn Disk,
    dir: &Path,
    config: &Config,
    observe: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<Option<Torn>, WalError> {
    let reader = Reader::new(disk, dir, config)?;
    let sequences = segment::list(disk, dir)?.segments;
    let segments = sequences
        .iter()
        .map(|sequence| reader.peek(*sequence))
        .collect::<Result<Vec<_>, _>>()?;
    if segments.is_empty() {
        return Err(WalError::Missing { path: dir.to_owned() });
    }
    let mut log = Log::observed(observe);
    let (end, _, torn) = reader.follow(&segments, &mut log)?;
    if log.state.is_none() {
        return Err(reader.corrupt(end.sequence, end.offset, Damage::BatchHead));
    }
    Ok(torn)
}

/// Where a log was cut back.
#[derive(Default)]
struct Survey {
    /// Records seen.
    records: u64,
    /// The log's last index at this point.
    last: Index,
    /// Numbers of records that cut the log, ascending, each with the first index that it dropped; once closed, with
    /// the least one that it or any record after it dropped.
    cuts: Vec<(u64, Index)>,
}

impl Survey {
    fn take(&mut self, record: &Record<'_>) {
        match *record {
            Record::State(state) => self.last = state.last.index,
            Record::HardState(_) => {}
            Record::Restart(at) => {
                self.cuts.push((self.records, Index(0)));
                self.last = at.index;
            }
            Record::Entry { index, .. } => {
                if index <= self.last {
                    self.cuts.push((self.records, index));
                }
                self.last = index;
            }
        }
        self.records += 1;
    }

    /// Whether the record of that number is there to the end; asked once closed.
    fn spares(&self, number: u64, record: &Record<'_>) -> bool {
        let Record::Entry { index, .. } = *record else {
            return true;
        };
        let later = self.cuts.partition_point(|(cut, _)| *cut <= number);
        self.cuts.get(later).is_none_or(|(_, least)| index < *least)
    }

    fn close(&mut self) {
        let mut least = Index(u64::MAX);
        for (_, index) in self.cuts.iter_mut().rev() {
            least = least.min(*index);
            *index = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::fake::FakeDisk;
    use crate::types::{ClusterId, MemberId};
    use crate::wal::{Append, Entry, Wal};

    const DIR: &str = "/m/wal";

    fn config() -> Config {
        Config {
            segment_bytes: 4096,
            salt: 7,
            ..Config::default()
        }
    }

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Append {
        let entry = |index| Entry {
            term: Term(term),
            index: Index(index),
            kind: 0,
            data: vec![1; 300].into(),
        };
        Append {
            entries: range.map(entry).collect(),
            ..Append::default()
        }
    }

    fn hard(term: u64, commit: u64) -> Append {
        Append {
            hard_state: Some(HardState {
                term: Term(term),
                vote: MemberId(1),
                commit: Index(commit),
            }),
            ..Append::default()
        }
    }

    fn restart(index: u64, term: u64) -> Append {
        Append {
            restart: Some(Position {
                index: Index(index),
                term: Term(term),
            }),
            ..Append::default()
        }
    }

    /// What is shown: `E index/term`, `S term/commit`, `R index/term`, `M` of the beginning.
    fn shown(disk: &FakeDisk, records_max: usize) -> (Vec<String>, Result<Option<Torn>, WalError>) {
        let mut shown = Vec::new();
        let walked = walk(disk, Path::new(DIR), &config(), &mut |record| {
            shown.push(match record {
                Logged::Begin { before, .. } => format!("M {}", before.index),
                Logged::Entry { term, index, .. } => format!("E {index}/{term}"),
                Logged::HardState(state) => format!("S {}/{}", state.term, state.commit),
                Logged::Restart(at) => format!("R {}/{}", at.index, at.term),
            });
            shown.len() < records_max
        });
        (shown, walked)
    }

    fn written(parts: Vec<Append>) -> FakeDisk {
        let disk = FakeDisk::new(1);
        let metadata = Metadata {
            cluster: ClusterId(1),
            member: MemberId(1),
        };
        let mut wal = Wal::create(Arc::new(disk.clone()), Path::new(DIR), metadata, config()).unwrap();
        for part in parts {
            wal.append(&[part]).unwrap();
        }
        disk
    }

    #[test]
    fn what_survived_is_shown_in_order() {
        let disk = written(vec![
            entries(1..=4, 1),
            hard(1, 2),
            entries(5..=30, 1),
            entries(3..=4, 2),
            hard(2, 4),
            entries(4..=6, 3),
        ]);
        let expected = [
            "M 0", "E 1/1", "E 2/1", "S 1/2", "E 3/2", "S 2/4", "E 4/3", "E 5/3", "E 6/3",
        ];
        let (all, walked) = shown(&disk, usize::MAX);
        assert_eq!(all, expected);
        assert_eq!(walked.unwrap(), None);
        assert_eq!(shown(&disk, 3).0, expected[..3]);
    }

    #[test]
    fn a_restart_drops_what_came_before() {
        let disk = written(vec![
            entries(1..=4, 1),
            hard(1, 2),
            restart(9, 2),
            entries(10..=11, 2),
        ]);
        let (all, walked) = shown(&disk, usize::MAX);
        assert_eq!(all, ["M 0", "S 1/2", "R 9/2", "E 10/2", "E 11/2"]);
        assert_eq!(walked.unwrap(), None);
    }

    #[test]
    fn opening_again_repeats_nothing() {
        let disk = written(vec![entries(1..=4, 1), hard(1, 2)]);
        drop(Wal::open(Arc::new(disk.clone()), Path::new(DIR), Index(1), config()).unwrap());
        let (all, walked) = shown(&disk, usize::MAX);
        assert_eq!(all, ["M 0", "E 1/1", "E 2/1", "E 3/1", "E 4/1", "S 1/2"]);
        assert_eq!(walked.unwrap(), None);
    }

    #[test]
    fn a_damaged_log_is_shown_up_to_the_damage() {
        let disk = written((1..=60).map(|index| entries(index..=index, 1)).collect());
        let names = disk.list(Path::new(DIR)).unwrap();
        let second = names
            .iter()
            .filter(|name| name.to_str().unwrap().ends_with(".wal"))
            .nth(1)
            .unwrap();
        let path = Path::new(DIR).join(second);
        let mut file = disk.open(&path).unwrap();
        let mut byte = [0];
        file.read_at(2000, &mut byte).unwrap();
        file.write_at(2000, &[byte[0] ^ 1]).unwrap();
        let (all, walked) = shown(&disk, usize::MAX);
        assert!((5..40).contains(&all.len()), "{all:?}");
        let Err(WalError::Corrupt {
            path: named, offset, ..
        }) = walked
        else {
            panic!("{walked:?}");
        };
        assert_eq!(named, path);
        assert!((1000..=2000).contains(&offset), "{offset}");
    }
}
