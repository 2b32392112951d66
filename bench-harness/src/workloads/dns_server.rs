//! The name server that dns workloads ask: answers every query for one of its names at once.

use std::ffi::{c_short, c_void};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::RawFd;

/// Larger than any datagram that a resolver sends.
const DATAGRAM_BYTES: usize = 512;
const HEADER_BYTES: usize = 12;
/// Type A, class IN, as they end a question.
const TYPE_A_CLASS_IN: [u8; 4] = [0, 1, 0, 1];

/// The name with a number.
pub(super) fn name(number: u64) -> String {
    format!("h{number}.bench.example")
}

/// Its address.
pub(super) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | (number as u32 * 257 + 1))
}

/// The event of the server's socket: answers everything that has arrived. A datagram that is no
/// question for a name of ours gets no answer, so its resolver reports a timeout.
pub(super) unsafe extern "C" fn on_queries(_fd: RawFd, _what: c_short, arg: *mut c_void) {
    // SAFETY: the socket outlives its event.
    let socket = unsafe { &*arg.cast::<UdpSocket>() };
    let mut query = [0; DATAGRAM_BYTES];
    while let Ok((len, from)) = socket.recv_from(&mut query) {
        let mut answer = [0; DATAGRAM_BYTES + 16];
        if let Some(len) = answer_to(&query[..len], &mut answer) {
            // A resolver that has gone is no error here.
            let _ = socket.send_to(&answer[..len], from);
        }
    }
}

/// Writes the answer (RFC 1035) and returns its length; `None` if the query is not understood.
///
/// The question is repeated as it came, since resolvers vary the case of letters and compare.
fn answer_to(query: &[u8], answer: &mut [u8; DATAGRAM_BYTES + 16]) -> Option<usize> {
    let (header, rest) = query.split_at_checked(HEADER_BYTES)?;
    let label_len = usize::from(*rest.first()?);
    let label = rest.get(1..1 + label_len)?;
    let digits = label.strip_prefix(b"h").or_else(|| label.strip_prefix(b"H"))?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let name_len = rest.iter().position(|byte| *byte == 0)? + 1;
    let question = rest.get(..name_len + TYPE_A_CLASS_IN.len())?;
    if question[name_len..] != TYPE_A_CLASS_IN {
        return None;
    }

    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        answer[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    put(&header[..2]); // id
    put(&[0x81, 0x80]); // a response, recursion desired and available, no error
    put(&[0, 1, 0, 1, 0, 0, 0, 0]); // one question, one answer
    put(question);
    put(&[0xc0, HEADER_BYTES as u8]); // the name in the question
    put(&TYPE_A_CLASS_IN);
    put(&60_u32.to_be_bytes()); // time to live in s
    put(&[0, 4]);
    put(&address(number).octets());
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(labels: &[&str], kind: u8) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn a_question_is_repeated_and_answered_with_the_address_of_its_number() {
        let query = query(&["H7", "bEnch", "example"], 1);
        let mut answer = [0; DATAGRAM_BYTES + 16];
        let len = answer_to(&query, &mut answer).unwrap();
        assert_eq!(answer[..2], query[..2]);
        assert_eq!(answer[HEADER_BYTES..query.len()], query[HEADER_BYTES..]);
        assert_eq!(answer[len - 4..len], address(7).octets());
    }

    #[test]
    fn anything_else_gets_no_answer() {
        let mut answer = [0; DATAGRAM_BYTES + 16];
        assert_eq!(answer_to(&[], &mut answer), None);
        assert_eq!(answer_to(&query(&["www", "example"], 1), &mut answer), None);
        assert_eq!(answer_to(&query(&["h7", "example"], 28), &mut answer), None);
        let whole = query(&["h7", "example"], 1);
        for len in 0..whole.len() {
            assert_eq!(answer_to(&whole[..len], &mut answer), None, "{len} bytes");
        }
    }

    #[test]
    fn names_have_addresses_of_their_own() {
        let addresses: std::collections::BTreeSet<_> = (0..64).map(address).collect();
        assert_eq!(addresses.len(), 64);
        assert_eq!(name(3), "h3.bench.example");
    }
}
