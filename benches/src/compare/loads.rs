//! The loads of a comparison.

use std::time::Duration;

use clap::ValueEnum;

use crate::spec::{KeySpace, Kind, Limit, Spec};
use crate::transport::Endpoint;

/// One load by its name: the operation and, behind `@`, the number of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Load {
    #[value(name = "put@1")]
    Put1,
    #[value(name = "put@100")]
    Put100,
    #[value(name = "put@1000")]
    Put1000,
    #[value(name = "put-4KiB@100")]
    Put4Kib100,
    #[value(name = "range@100")]
    Range100,
    #[value(name = "range-serializable@100")]
    RangeSerializable100,
    #[value(name = "list-1000x1KiB@8")]
    List8,
    #[value(name = "lease-keepalive@100")]
    Keepalive100,
    #[value(name = "lease-keepalive-once@100")]
    KeepaliveOnce100,
    #[value(name = "txn-mixed@100")]
    Txn100,
    #[value(name = "watch@100")]
    Watch100,
}

/// What is the same for all loads of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common {
    pub(crate) clients_per_conn: usize,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) seed: u64,
}

/// Distinct keys of the loads that put: many enough that keys are new and old in turns.
const PUT_KEYS: u64 = 100_000;

/// Keys of the loads that read: written before.
const READ_KEYS: u64 = 10_000;

impl Load {
    /// The name on the command line and in the table.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Those to run where none are named. Several members answer a list, a renewal on a stream of its own and a watch as
    /// one member does, each by itself, so that these would say nothing new.
    pub(super) fn defaults(members: usize) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        let local = [Self::List8, Self::KeepaliveOnce100, Self::Watch100];
        all.filter(|load| members == 1 || !local.contains(load)).collect()
    }

    /// Clients, keys, bytes of a value, and what to do.
    fn shape(self) -> (usize, u64, usize, Kind) {
        match self {
            Self::Put1 => (1, PUT_KEYS, 256, Kind::Put),
            Self::Put100 => (100, PUT_KEYS, 256, Kind::Put),
            Self::Put1000 => (1000, PUT_KEYS, 256, Kind::Put),
            Self::Put4Kib100 => (100, PUT_KEYS, 4096, Kind::Put),
            Self::Range100 => {
                let serializable = false;
                (100, READ_KEYS, 256, Kind::Range { serializable })
            }
            Self::RangeSerializable100 => {
                let serializable = true;
                (100, READ_KEYS, 256, Kind::Range { serializable })
            }
            Self::List8 => {
                let serializable = false;
                (8, 1000, 1024, Kind::List { serializable })
            }
            Self::Keepalive100 => (100, 1, 256, Kind::Keepalive { once: false }),
            Self::KeepaliveOnce100 => (100, 1, 256, Kind::Keepalive { once: true }),
            Self::Watch100 => (100, PUT_KEYS, 256, Kind::Watch { putters: 8 }),
            Self::Txn100 => {
                let kind = Kind::Txn {
                    read_percent: 50,
                    range_limit: 1000,
                };
                (100, READ_KEYS, 256, kind)
            }
        }
    }

    pub(crate) fn spec(self, common: &Common, endpoints: Vec<Endpoint>, pids: Vec<u32>) -> Spec {
        let (clients, key_count, value_size, kind) = self.shape();
        Spec {
            endpoints,
            clients,
            conns: clients.div_ceil(common.clients_per_conn),
            limit: Limit::Duration(common.duration),
            warmup: common.warmup,
            prefill: kind.reads_keys(),
            keys: KeySpace {
                size: 8,
                count: key_count,
                sequential: false,
            },
            value_size,
            seed: common.seed,
            pids,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_members_run_fewer_loads_by_default() {
        let all = Load::value_variants();
        assert_eq!(Load::defaults(1), all);
        let several = Load::defaults(3);
        assert_eq!(several.len(), all.len() - 3);
        assert!(several.contains(&Load::Put100) && !several.contains(&Load::List8));
    }

    #[test]
    fn names_say_how_many_clients_there_are() {
        let common = Common {
            clients_per_conn: 10,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            seed: 1,
        };
        for load in Load::value_variants() {
            let spec = load.spec(&common, vec!["127.0.0.1:1".parse().unwrap()], vec![7]);
            let name = load.name();
            let (_, clients) = name.rsplit_once('@').unwrap();
            assert_eq!(clients, spec.clients.to_string(), "{name}");
            assert!((1..=10).contains(&(spec.clients / spec.conns)), "{name}");
            assert_eq!(spec.pids, [7]);
        }
    }
}
