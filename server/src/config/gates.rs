//! Feature gates: names, stages and defaults of etcd 3.7, and the reading of `--feature-gates`.

use super::notice::Notice;
use super::number::parse_bool;
use super::raw::Raw;
use super::{Refusal, check};

/// One gate.
struct Gate {
    name: &'static str,
    stage: &'static str,
    default: bool,
}

/// The state of all gates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gates {
    /// What was set, by hand or through `AllAlpha` and `AllBeta`; in the order of [`GATES`].
    set: [Option<bool>; GATES.len()],
}

impl Gates {
    /// Every gate at its default.
    pub(super) fn new() -> Gates {
        Gates {
            set: [None; GATES.len()],
        }
    }

    /// Reads `A=true,B=false`; the error's text is etcd's. What was set before stays unless it is named again.
    pub(super) fn read(&mut self, text: &str) -> Result<(), String> {
        let mut named = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let Some((name, state)) = pair.split_once('=') else {
                return Err(format!("missing bool value for {}", pair.trim()));
            };
            let (name, state) = (name.trim(), state.trim());
            let on = parse_bool(state).ok_or_else(|| {
                format!(
                    "invalid value of {name}={state}, err: strconv.ParseBool: parsing {state:?}: invalid syntax"
                )
            })?;
            named.push((name, on));
        }
        let mut all = Vec::new();
        for (name, on) in named {
            let at = GATES
                .iter()
                .position(|gate| gate.name == name)
                .ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
            self.set[at] = Some(on);
            match name {
                "AllAlpha" => all.push((ALPHA, on)),
                "AllBeta" => all.push((BETA, on)),
                _ => {}
            }
        }
        // A gate named by itself wins over its stage, wherever it stands in the list.
        for (stage, on) in all {
            for (gate, set) in GATES.iter().zip(&mut self.set) {
                if gate.stage == stage {
                    set.get_or_insert(on);
                }
            }
        }
        Ok(())
    }

    /// Whether the gate of that name is on.
    pub(crate) fn enabled(&self, name: &str) -> bool {
        self.list().iter().any(|&(known, _, on)| known == name && on)
    }

    /// Whether the gate was set, by itself or with its stage.
    pub(super) fn is_set(&self, name: &str) -> bool {
        let at = GATES.iter().position(|gate| gate.name == name);
        at.is_some_and(|at| self.set[at].is_some())
    }

    /// Name, stage and state of every gate.
    pub(super) fn list(&self) -> Vec<(&'static str, &'static str, bool)> {
        GATES
            .iter()
            .zip(self.set)
            .map(|(gate, set)| (gate.name, gate.stage, set.unwrap_or(gate.default)))
            .collect()
    }

    /// What was set, as etcd writes it.
    pub(super) fn text(&self) -> String {
        let mut pairs: Vec<String> = GATES
            .iter()
            .zip(self.set)
            .filter_map(|(gate, set)| set.map(|on| format!("{}={on}", gate.name)))
            .collect();
        pairs.sort();
        pairs.join(",")
    }

    /// What `--help` lists.
    pub(super) fn options() -> Vec<String> {
        let mut lines: Vec<String> = GATES
            .iter()
            .map(|gate| {
                format!(
                    "{}=true|false ({} - default={})",
                    gate.name, gate.stage, gate.default
                )
            })
            .collect();
        lines.sort();
        lines
    }
}

/// Reads `--feature-gates` and the flags that gates were before.
pub(super) fn read(raw: &mut Raw) -> Result<Gates, Refusal> {
    let mut named = Gates::new();
    named.read(raw.get("feature-gates")).map_err(check)?;
    let mut gates = named.clone();
    for (flag, gate, on) in &raw.old_gates {
        if named.is_set(gate) {
            return Err(check(format!(
                "cannot specify both flags: --{flag}=(true|false) and --feature-gates={gate}=(true|false) at the same \
                 time, please just use --feature-gates={gate}=(true|false)"
            )));
        }
        gates.read(&format!("{gate}={on}")).map_err(check)?;
    }
    let (checkpoint, persist) = (
        gates.enabled("LeaseCheckpoint"),
        gates.enabled("LeaseCheckpointPersist"),
    );
    if checkpoint && !persist {
        raw.notices.push(Notice::plain(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
             LeaseCheckpointPersist",
        ));
    }
    if persist && !checkpoint {
        return Err(check(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    Ok(gates)
}

const ALPHA: &str = "ALPHA";
const BETA: &str = "BETA";

const fn gate(name: &'static str, stage: &'static str, default: bool) -> Gate {
    Gate { name, stage, default }
}

/// The gates that etcd 3.7 knows.
const GATES: [Gate; 11] = [
    gate("AllAlpha", ALPHA, false),
    gate("AllBeta", BETA, false),
    gate("CompactHashCheck", ALPHA, false),
    gate("FastLeaseKeepAlive", BETA, true),
    gate("InitialCorruptCheck", ALPHA, false),
    gate("LeaseCheckpoint", ALPHA, false),
    gate("LeaseCheckpointPersist", ALPHA, false),
    gate("PriorityRequest", ALPHA, false),
    gate("SetMemberLocalAddr", ALPHA, false),
    gate("StopGRPCServiceOnDefrag", ALPHA, false),
    gate("TxnModeWriteWithSharedBuffer", BETA, true),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Gates, String> {
        let mut gates = Gates::new();
        gates.read(text).map(|()| gates)
    }

    #[test]
    fn a_gate_named_wins_over_its_stage() {
        let gates = read("AllAlpha=true,LeaseCheckpoint=false,AllBeta=0").unwrap();
        assert!(gates.enabled("CompactHashCheck") && gates.enabled("LeaseCheckpointPersist"));
        assert!(!gates.enabled("LeaseCheckpoint") && !gates.enabled("FastLeaseKeepAlive"));
        let gates = read("LeaseCheckpoint=false,AllAlpha=true").unwrap();
        assert!(!gates.enabled("LeaseCheckpoint") && gates.enabled("AllAlpha"));
        assert_eq!(
            read(" InitialCorruptCheck = T ,,").unwrap().text(),
            "InitialCorruptCheck=true"
        );
        let defaults = Gates::new();
        assert!(defaults.enabled("FastLeaseKeepAlive") && !defaults.enabled("InitialCorruptCheck"));
        assert!(!defaults.is_set("FastLeaseKeepAlive"));
    }

    #[test]
    fn bad_gates_are_refused_in_etcds_words() {
        for (text, message) in [
            ("A=true", "unrecognized feature gate: A"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            (
                "AllAlpha=x",
                "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message);
        }
    }
}
