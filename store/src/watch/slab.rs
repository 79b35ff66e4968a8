//! Things in numbered places: reaching one costs an index, places are used again. A [`Ticket`] names a thing for
//! good, a bare [`Slot`] only as long as it is known to live.

/// A place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u32);

/// A place together with the number its tenant got; finds nothing once that tenant is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    slot: Slot,
    serial: u64,
}

/// The things.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<(u64, T)>>,
    free: Vec<Slot>,
    serial: u64,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, thing: T) -> Slot {
        self.serial += 1;
        let tenant = Some((self.serial, thing));
        if let Some(slot) = self.free.pop() {
            self.places[slot.0 as usize] = tenant;
            return slot;
        }
        self.places.push(tenant);
        Slot(u32::try_from(self.places.len() - 1).expect("memory ends long before 2^32 watchers"))
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let (_, thing) = self.places.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot);
        Some(thing)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.places.get(slot.0 as usize)?.as_ref().map(|(_, thing)| thing)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.places
            .get_mut(slot.0 as usize)?
            .as_mut()
            .map(|(_, thing)| thing)
    }

    /// The present tenant's ticket.
    pub(super) fn ticket(&self, slot: Slot) -> Option<Ticket> {
        let (serial, _) = self.places.get(slot.0 as usize)?.as_ref()?;
        Some(Ticket {
            slot,
            serial: *serial,
        })
    }

    /// The slot of a ticket whose tenant still lives.
    pub(super) fn redeem(&self, ticket: Ticket) -> Option<Slot> {
        (self.ticket(ticket.slot)? == ticket).then_some(ticket.slot)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, place)| place.is_some())
            .map(|(at, _)| Slot(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_outlives_its_tenant_and_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        let ticket = slab.ticket(first).expect("present");
        assert_eq!((slab.remove(first), slab.remove(first)), (Some('a'), None));
        let second = slab.insert('b');
        assert_eq!((first, slab.len()), (second, 1), "the place is used again");
        assert_eq!(slab.redeem(ticket), None);
        assert_eq!(slab.get(second), Some(&'b'));
    }
}
