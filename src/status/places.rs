//! Who may be connected to the status server, and who has to go when there are too many. No I/O.
//!
//! A client that says at once what it wants is served, however many others sit there and say nothing:
//! when all places are taken, a newcomer gets the place of a client that has said nothing yet, else of one
//! that does not take its answer; of these, the oldest of the source that has most places. So whoever
//! takes many places replaces mostly itself.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use tokio::time::Instant;

/// Clients at a time.
pub(super) const PLACES: usize = 32;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From this machine.
    Local,
    /// From an IPv4 address.
    V4(Ipv4Addr),
    /// From an IPv6 prefix of 64 bits: one machine may have any address in it.
    V6(u64),
}

impl Source {
    /// Of a connection from `peer` to the address `own`.
    pub(super) fn of(peer: IpAddr, own: IpAddr) -> Self {
        match peer.to_canonical() {
            peer if peer.is_loopback() || peer == own.to_canonical() => Self::Local,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// What a client that is connected is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has not said what it wants, or has been answered and does not go.
    Silent,
    /// Its answer is on the way.
    Taking,
    /// Its answer is being made. That is for the agent to do, and soon done.
    Waiting,
}

/// The places that are taken. `T` is how a client's connection is ended.
#[derive(Debug)]
pub(super) struct Places<T> {
    taken: Vec<Place<T>>,
}

#[derive(Debug)]
struct Place<T> {
    number: u64,
    source: Source,
    stage: Stage,
    since: Instant,
    end: T,
}

/// What becomes of a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<T> {
    /// A place is free.
    Free,
    /// This client has to go for it; its place is free already.
    Instead(T),
    /// Somebody will have to go soon: try again.
    Later,
    /// There is nobody who would have to go.
    Never,
}

impl<T> Places<T> {
    pub(super) fn new() -> Self {
        Self { taken: Vec::new() }
    }

    /// Makes room for a client from this source.
    pub(super) fn make_room(&mut self, source: Source) -> Admission<T> {
        if self.taken.len() < PLACES {
            return Admission::Free;
        }
        let count = |of: Source| self.taken.iter().filter(|place| place.source == of).count();
        // This machine's own clients give way to each other only.
        let others = self.taken.iter().enumerate();
        let mut others = others
            .filter(|(_, place)| source == Source::Local || place.source != Source::Local)
            .peekable();
        if others.peek().is_none() {
            return Admission::Never;
        }
        let leaving = others
            .filter(|(_, place)| place.stage != Stage::Waiting)
            .min_by_key(|(_, place)| (place.stage, Reverse(count(place.source)), place.since));
        match leaving {
            Some((index, _)) => Admission::Instead(self.taken.swap_remove(index).end),
            None => Admission::Later,
        }
    }

    /// Takes a place under a number that no other has.
    pub(super) fn enter(&mut self, number: u64, source: Source, now: Instant, end: T) {
        self.taken.push(Place {
            number,
            source,
            stage: Stage::Silent,
            since: now,
            end,
        });
    }

    /// Says what the client is doing now.
    pub(super) fn set(&mut self, number: u64, stage: Stage) {
        for place in &mut self.taken {
            if place.number == number {
                place.stage = stage;
            }
        }
    }

    /// Gives a place back, if it is still there.
    pub(super) fn leave(&mut self, number: u64) {
        self.taken.retain(|place| place.number != number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(host: u8) -> Source {
        Source::V4(Ipv4Addr::new(192, 168, 1, host))
    }

    /// Full of silent clients, the first the oldest; each ends by its number.
    fn full(source: impl Fn(u64) -> Source) -> (Places<u64>, Instant) {
        let start = Instant::now();
        let mut places = Places::new();
        for number in 0..PLACES as u64 {
            let now = start + Duration::from_millis(number);
            assert_eq!(places.make_room(source(number)), Admission::Free);
            places.enter(number, source(number), now, number);
        }
        (places, start + Duration::from_millis(PLACES as u64))
    }

    #[test]
    fn a_source_is_a_machine() {
        let of = |peer: &str| Source::of(peer.parse().unwrap(), "192.168.1.1".parse().unwrap());
        assert_eq!(of("127.0.0.1"), Source::Local);
        assert_eq!(of("::1"), Source::Local);
        assert_eq!(of("192.168.1.1"), Source::Local);
        assert_eq!(of("::ffff:192.168.1.1"), Source::Local);
        assert_eq!(of("::ffff:192.168.1.7"), v4(7));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[test]
    fn the_oldest_of_the_greediest_goes() {
        let (mut places, now) = full(|number| if number == 0 { v4(1) } else { v4(2) });
        assert_eq!(places.make_room(v4(3)), Admission::Instead(1));
        places.enter(100, v4(3), now, 100);
        assert_eq!(places.make_room(v4(3)), Admission::Instead(2));
    }

    #[test]
    fn who_is_answered_goes_last() {
        let (mut places, now) = full(|number| v4(number as u8));
        for number in 0..PLACES as u64 {
            places.set(number, Stage::Waiting);
        }
        assert_eq!(places.make_room(v4(99)), Admission::Later);
        places.set(5, Stage::Taking);
        places.set(6, Stage::Taking);
        places.set(7, Stage::Silent);
        for leaving in [7, 5, 6] {
            assert_eq!(places.make_room(v4(99)), Admission::Instead(leaving));
            places.enter(100 + leaving, v4(99), now, 100 + leaving);
            places.set(100 + leaving, Stage::Waiting);
        }
        assert_eq!(places.make_room(v4(99)), Admission::Later);
    }

    #[test]
    fn the_own_machine_gives_way_to_nobody_else() {
        let (mut places, _) = full(|_| Source::Local);
        assert_eq!(places.make_room(v4(1)), Admission::Never);
        assert_eq!(places.make_room(Source::Local), Admission::Instead(0));
        let (mut places, _) = full(|number| if number < 31 { Source::Local } else { v4(1) });
        assert_eq!(places.make_room(v4(2)), Admission::Instead(31));
    }

    #[test]
    fn a_place_is_given_back_once() {
        let (mut places, _) = full(|number| v4(number as u8));
        places.leave(3);
        places.leave(3);
        assert_eq!(places.taken.len(), PLACES - 1);
        assert_eq!(places.make_room(v4(1)), Admission::Free);
    }
}
