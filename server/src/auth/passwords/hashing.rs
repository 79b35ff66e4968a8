//! bcrypt in pieces. The library's own call works for tens of milliseconds in one go, and whoever works in one go is
//! left to it by the scheduler for some of them, whatever its priority: on a busy processor every request behind it
//! waits. So the rounds are counted out here, over the library's cipher, and the thread yields after each few.
//!
//! The format of hashes is the library's; the algorithm is Provos and Mazières, "A Future-Adaptable Password Scheme",
//! USENIX 1999, section 4.

use std::str::FromStr;
use std::thread;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use bcrypt::HashParts;
use blowfish::Blowfish;
use zeroize::Zeroizing;

/// The hash of `password` with a new salt, in the form in which etcd writes it; nothing where there are no random
/// numbers.
pub(super) fn hash(password: &str, cost: u32) -> Option<String> {
    let mut salt = [0; SALT_BYTES];
    let got = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty());
    if got != Ok(SALT_BYTES) {
        return None;
    }
    let sum = sum(password, cost, &salt);
    let (salt, sum) = (BASE_64.encode(salt), BASE_64.encode(sum));
    Some(format!("$2a${cost:02}${salt}{sum}"))
}

/// Whether `hash` is that of `password`. One that cannot be read matches nothing, and costs as much as one that can and
/// was made at `cost`.
pub(super) fn matches(password: &str, hash: Option<&[u8]>, cost: u32) -> bool {
    let hash = hash.and_then(|hash| std::str::from_utf8(hash).ok());
    let parts = hash.and_then(|hash| Some((hash, HashParts::from_str(hash).ok()?)));
    let Some((hash, parts)) = parts.filter(|(_, parts)| COSTS.contains(&parts.get_cost())) else {
        // What comes out does not matter, only that it is computed.
        std::hint::black_box(sum(password, cost, &[0; SALT_BYTES]));
        return false;
    };
    let sum = BASE_64.encode(sum(password, parts.get_cost(), &parts.get_salt_raw()));
    // All of it is looked at, so that the time does not tell how much was right.
    let pairs = hash.bytes().rev().zip(sum.bytes().rev());
    pairs.fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn sum(password: &str, cost: u32, salt: &[u8; SALT_BYTES]) -> [u8; SUM_BYTES] {
    // With the zero that ends a string in C, as far as there is room for it.
    let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
    let length = password.len().min(KEY_BYTES_MAX);
    key[..length].copy_from_slice(&password.as_bytes()[..length]);
    let key = &key[..(length + 1).min(KEY_BYTES_MAX)];
    let mut cipher: Blowfish = Blowfish::bc_init_state();
    cipher.salted_expand_key(salt, key);
    for round in 1..=1u32 << cost {
        cipher.bc_expand_key(key);
        cipher.bc_expand_key(salt);
        if round.is_multiple_of(ROUNDS_IN_ONE_GO) {
            thread::yield_now();
        }
    }
    let mut sum = [0; SUM_BYTES + 1];
    for (block, to) in TEXT.chunks_exact(8).zip(sum.chunks_exact_mut(8)) {
        let half = |at: usize| block[at..].first_chunk().copied().map_or(0, u32::from_be_bytes);
        let mut halves = [half(0), half(4)];
        for _ in 0..64 {
            halves = cipher.bc_encrypt(halves);
        }
        let [left, right] = halves;
        to.copy_from_slice(&(u64::from(left) << 32 | u64::from(right)).to_be_bytes());
    }
    // The last byte is left out, by a slip of the first implementation that all others repeat.
    let [sum @ .., _] = sum;
    sum
}

const BASE_64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, NO_PAD);
/// The costs that the library allows.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// What is encrypted.
const TEXT: &[u8; 24] = b"OrpheanBeholderScryDoubt";
const SALT_BYTES: usize = 16;
const SUM_BYTES: usize = 23;
/// What lies beyond does not count.
const KEY_BYTES_MAX: usize = 72;
/// Some 0.2 ms of work.
const ROUNDS_IN_ONE_GO: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by etcd 3.7.1 of `p:w`, at cost 4.
    const ETCDS: &str = "$2a$04$GSpjqgS.G4tMee3ZoUeJYu6ne.aXH9SW53TpBXgYbbxFx0Asa8nt.";

    #[test]
    fn hashes_are_those_of_the_library() {
        let long = "ä".repeat(40);
        for (password, cost) in [("", 4), ("p", 5), (&long[..72], 4), (&long, 6), ("a\0b", 4)] {
            let theirs = bcrypt::hash(password, cost).unwrap();
            assert!(matches(password, Some(theirs.as_bytes()), 4), "{password}");
            assert!(!matches("other", Some(theirs.as_bytes()), 4), "{password}");
            let ours = hash(password, cost).unwrap();
            assert_eq!((ours.len(), &ours[..7]), (60, &*format!("$2a${cost:02}$")));
            assert_eq!(bcrypt::verify(password, &ours).ok(), Some(true), "{password}");
            assert_ne!(ours, hash(password, cost).unwrap());
        }
    }

    #[test]
    fn hashes_of_etcd_match() {
        assert!(matches("p:w", Some(ETCDS.as_bytes()), 4));
        assert!(!matches("p:v", Some(ETCDS.as_bytes()), 4));
        let too_costly = ETCDS.replace("$04$", "$99$");
        // As etcd writes what it never hashed.
        for broken in [&b""[..], b"$2a$", b"\xff", b"plain", too_costly.as_bytes()] {
            assert!(!matches("", Some(broken), 4));
        }
        assert!(!matches("", None, 4));
    }

    /// By the processor's time, since others may use it as well.
    #[test]
    fn who_is_unknown_costs_as_much() {
        let hash = hash("p", 7).unwrap();
        let used_s = || {
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
        };
        let time = |hash: Option<&[u8]>| {
            let times = (0..8).map(|_| {
                let began = used_s();
                assert!(!matches("wrong", hash, 7));
                used_s() - began
            });
            times.fold(f64::MAX, f64::min)
        };
        let (known, unknown) = (time(Some(hash.as_bytes())), time(None));
        assert!(
            unknown > known / 3.0 && known > unknown / 3.0,
            "{known} s and {unknown} s"
        );
    }
}
