//! Partitions: which links are blocked.

use std::collections::BTreeSet;

use super::{Intensities, Order, Sight};
use crate::rng::Rng;
use crate::sim::member::MemberNumber;
use crate::sim::network::Link;

#[derive(Clone, Copy)]
enum Shape {
    /// One member reaches nobody and nobody reaches it; mostly the leader.
    Isolated,
    /// One member is heard by nobody, or hears nobody.
    OneWay,
    /// Two groups.
    Split,
    /// Any links.
    Random,
}

/// A partition of some shape.
pub(super) fn partition(intensities: &Intensities, sight: &Sight, rng: &mut Rng) -> Order {
    let shapes = [Shape::Isolated, Shape::OneWay, Shape::Split, Shape::Random];
    let shape = *rng.pick(&shapes);
    Order::Block {
        links: links(shape, sight, rng),
        away: rng.between(1, intensities.partition_max),
    }
}

fn links(shape: Shape, sight: &Sight, rng: &mut Rng) -> BTreeSet<Link> {
    let all = sight
        .members()
        .flat_map(|from| sight.members().map(move |to| (from, to)));
    let all = all.filter(|(from, to)| from != to);
    match shape {
        Shape::Isolated => {
            let target = sight.target(rng);
            all.filter(|(from, to)| *from == target || *to == target)
                .collect()
        }
        Shape::OneWay => {
            let (target, deaf) = (sight.target(rng), rng.once_in(2));
            all.filter(|(from, to)| if deaf { *to == target } else { *from == target })
                .collect()
        }
        Shape::Split => {
            let side: Vec<bool> = sight.members().map(|_| rng.once_in(2)).collect();
            let side = |member: &MemberNumber| side[member.0];
            all.filter(|(from, to)| side(from) != side(to)).collect()
        }
        Shape::Random => all.filter(|_| rng.once_in(3)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Sight {
            up: vec![true; 5],
            leader: Some(MemberNumber(2)),
            recovering: false,
        }
    }

    #[test]
    fn isolation_is_whole_and_a_one_way_block_is_not() {
        let mut rng = Rng::new(5);
        for _ in 0..20 {
            assert_eq!(links(Shape::Isolated, &sight(), &mut rng).len(), 8);
            let one_way = links(Shape::OneWay, &sight(), &mut rng);
            assert_eq!(one_way.len(), 4);
            assert!(one_way.iter().all(|(a, b)| !one_way.contains(&(*b, *a))));
            let split = links(Shape::Split, &sight(), &mut rng);
            assert!(split.iter().all(|(a, b)| split.contains(&(*b, *a))));
        }
    }
}
