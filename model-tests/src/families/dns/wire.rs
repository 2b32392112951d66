//! DNS messages as bytes: questions as they come, answers as a server would never send them.

use crate::Rng;
use serde::{Deserialize, Serialize};

/// How a question is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// That many addresses (or names), with a time to live in s.
    Good(u8, u32),
    /// A chain of so many aliases before the addresses.
    Alias(u8, u8),
    /// A code, with flags; with the source of authority that says for how long.
    Code(u8, u16, bool),
    /// A good answer, cut off.
    Cut(u16),
    /// A good answer under another number.
    WrongId,
    /// A good answer to another name.
    WrongName,
    /// A good answer to which bytes at places are changed.
    Damaged(Vec<(u16, u8)>),
    /// The name points at itself, forward, or behind the end.
    Pointer(u16),
    /// More records are announced than there are.
    Announced(u16),
    /// Addresses of odd lengths, records of other classes and types.
    Odd(u8),
    /// A good answer, twice.
    Twice,
    /// The question itself.
    Echo,
}

impl Reply {
    pub(crate) fn draw(rng: &mut Rng) -> Reply {
        match rng.u8(..24) {
            0..=7 => Reply::Good([1, 1, 2, 0, 40][rng.usize(..5)], [0, 60, 1 << 31, u32::MAX][rng.usize(..4)]),
            8 | 9 => Reply::Alias(rng.u8(..5), rng.u8(..3)),
            10..=13 => Reply::Code(rng.u8(..8), [0x8180, 0x8380, 0x8580, 0x0180, 0x8980][rng.usize(..5)], rng.bool()),
            14 => Reply::Cut(rng.u16(..80)),
            15 => Reply::WrongId,
            16 => Reply::WrongName,
            17 | 18 => Reply::Damaged((0..rng.usize(1..5)).map(|_| (rng.u16(2..120), rng.u8(..))).collect()),
            19 => Reply::Pointer([0xc00c, 0xc000, 0xffff, 0xc02a, 0xc021][rng.usize(..5)]),
            20 => Reply::Announced([2, 50, 0xffff][rng.usize(..3)]),
            21 => Reply::Odd(rng.u8(..6)),
            22 => Reply::Twice,
            _ => Reply::Echo,
        }
    }

    /// Whether a server that answers so stays a good one.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Reply::Good(..) | Reply::Alias(..) | Reply::Twice)
    }

    /// The packets for a question; `other_id` is the number of no question.
    pub(crate) fn packets(&self, question: &[u8], other_id: u16) -> Vec<Vec<u8>> {
        let good = || message(question, 0x8180, &records(question, 1, 60));
        match self {
            Reply::Good(count, ttl) => vec![message(question, 0x8180, &records(question, *count, *ttl))],
            Reply::Alias(links, count) => {
                let mut all: Vec<Vec<u8>> = (0..*links).map(|link| record(5, 1, 9, &alias(question, link))).collect();
                all.extend(records(question, *count, 30));
                vec![message(question, 0x8180, &all)]
            }
            Reply::Code(code, flags, authority) => vec![negative(question, flags | u16::from(*code), *authority)],
            Reply::Cut(len) => {
                let mut packet = good();
                packet.truncate((*len).into());
                vec![packet]
            }
            Reply::WrongId => {
                let mut packet = good();
                packet[..2].copy_from_slice(&other_id.to_be_bytes());
                vec![packet]
            }
            Reply::WrongName => {
                let mut packet = good();
                packet[13] ^= 3;
                vec![packet]
            }
            Reply::Damaged(changes) => {
                let mut packet = good();
                for (at, value) in changes {
                    if let Some(byte) = packet.get_mut(usize::from(*at)) {
                        *byte = *value;
                    }
                }
                vec![packet]
            }
            Reply::Pointer(pointer) => {
                let mut all = records(question, 1, 60);
                all[0][..2].copy_from_slice(&pointer.to_be_bytes());
                vec![message(question, 0x8180, &all)]
            }
            Reply::Announced(count) => {
                let mut packet = good();
                packet[6..8].copy_from_slice(&count.to_be_bytes());
                vec![packet]
            }
            Reply::Odd(which) => {
                let data: &[u8] = &[1, 2, 3, 4, 5, 6, 7];
                let (kind, class, len) =
                    [(1, 1, 3), (1, 1, 7), (1, 3, 4), (28, 1, 4), (16, 1, 7), (99, 1, 0)][usize::from(which % 6)];
                let mut all = vec![record(kind, class, 60, &data[..len])];
                all.extend(records(question, 1, 60));
                vec![message(question, 0x8180, &all)]
            }
            Reply::Twice => vec![good(), good()],
            Reply::Echo => vec![question.to_vec()],
        }
    }
}

/// The name of a question in lower case, and its type; none if there is none.
pub(crate) fn question(packet: &[u8]) -> Option<(String, u16)> {
    let (mut at, mut name) = (12, String::new());
    loop {
        let len = usize::from(*packet.get(at)?);
        if len == 0 {
            break;
        }
        name.push_str(&packet.get(at + 1..=at + len)?.escape_ascii().to_string().to_lowercase());
        name.push('.');
        at += len + 1;
    }
    Some((name, u16::from_be_bytes(packet.get(at + 1..at + 3)?.try_into().ok()?)))
}

/// The end of the question: what follows it is no part of an answer.
fn end_of_question(packet: &[u8]) -> usize {
    let mut at = 12;
    while let Some(len) = packet.get(at).filter(|len| **len != 0) {
        at += usize::from(*len) + 1;
    }
    (at + 5).min(packet.len())
}

fn record(kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend(class.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// The name of a link in a chain: from the second on it points at one that points on.
fn alias(question: &[u8], link: u8) -> Vec<u8> {
    let mut name = vec![4, b'a', b'l', b'i', b'0' + link];
    // Each record of the chain has 12 bytes before its data, and 7 in it.
    let before = end_of_question(question) + 12 + (usize::from(link).max(1) - 1) * 19;
    let pointer = if link == 0 { 0xc00c } else { 0xc000 | before as u16 };
    name.extend(pointer.to_be_bytes());
    name
}

fn records(packet: &[u8], count: u8, ttl: u32) -> Vec<Vec<u8>> {
    let kind = question(packet).map_or(1, |(_, kind)| kind);
    let one = |number: u8| match kind {
        28 => record(28, 1, ttl, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]),
        12 => record(12, 1, ttl, &[3, b'p', b't', b'a' + number % 26, 4, b'h', b'o', b's', b't', 0]),
        _ => record(1, 1, ttl, &[192, 0, 2, number]),
    };
    (0..count).map(one).collect()
}

fn message(packet: &[u8], flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut all = packet[..end_of_question(packet)].to_vec();
    all[2..4].copy_from_slice(&flags.to_be_bytes());
    all[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    all.extend(records.iter().flatten());
    all
}

fn negative(packet: &[u8], flags: u16, authority: bool) -> Vec<u8> {
    let mut all = message(packet, flags, &[]);
    if authority {
        let soa: Vec<u8> = [0xc0, 12, 0xc0, 12]
            .into_iter()
            .chain([1_u32, 2, 3, 4, 77].into_iter().flat_map(u32::to_be_bytes))
            .collect();
        all[8..10].copy_from_slice(&1_u16.to_be_bytes());
        all.extend(record(6, 1, 99, &soa));
    }
    all
}

/// A question as clients send it, or as they never do.
pub(crate) fn hostile(rng: &mut Rng) -> Vec<u8> {
    let mut packet = vec![rng.u8(..), rng.u8(..)];
    packet.extend([0x0100_u16, 0x0000, 0x8180, 0x2900][rng.usize(..4)].to_be_bytes());
    let count = [1_u16, 1, 1, 2, 0, 500][rng.usize(..6)];
    packet.extend(count.to_be_bytes());
    packet.extend([0, 0, 0, u8::from(rng.u8(..5) == 0), 0, 0]);
    for _ in 0..count.min(3) {
        for _ in 0..rng.usize(..4) {
            let len = [1, 3, 8, 63, 64, 200][rng.usize(..6)].min(if rng.bool() { 8 } else { 255 });
            packet.push(len);
            packet.extend((0..len).map(|_| rng.u8(b'a'..=b'z')));
        }
        if rng.u8(..6) == 0 {
            packet.extend([0xc0, [12, 0, 200, 13][rng.usize(..4)]]);
        } else {
            packet.push(0);
        }
        packet.extend([1_u16, 28, 12, 255, 65000][rng.usize(..5)].to_be_bytes());
        packet.extend([1_u16, 1, 3][rng.usize(..3)].to_be_bytes());
    }
    if rng.u8(..6) == 0 {
        // Not within the header: 2.1.12 crashes there (docs/gate/models-events.md).
        packet.truncate(rng.usize(12..=packet.len().max(12)));
    }
    packet
}
