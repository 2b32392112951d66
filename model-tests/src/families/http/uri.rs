//! `http-uri`: evhttp's functions on texts alone.

use crate::family::{Family, Verdict};
use crate::text::{Bytes, c_string, from_c};
use crate::{Rng, observe};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Parses, with flags, and joins into so much room.
    Parse(Bytes, u32, usize),
    /// Encodes and decodes; a space may be a plus.
    Code(Bytes, bool),
    Decode(Bytes),
    Query(Bytes),
    Escape(Bytes),
}

/// The family.
pub(crate) struct Uris;

impl Family for Uris {
    type Op = Op;
    const NAME: &'static str = "http-uri";
    const ABOUT: &'static str = "parsing, joining and encoding of addresses and queries";

    fn generate(rng: &mut Rng, _number: u64) -> Vec<Op> {
        (0..rng.usize(5..40))
            .map(|_| {
                let text = Bytes(text(rng));
                match rng.u8(..8) {
                    0..=3 => Op::Parse(text, rng.u32(..2), [2000, rng.usize(..40)][rng.usize(..2)]),
                    4 => Op::Code(text, rng.bool()),
                    5 => Op::Decode(text),
                    6 => Op::Query(text),
                    _ => Op::Escape(text),
                }
            })
            .collect()
    }

    fn start() -> Result<Self, String> {
        Ok(Uris)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        // SAFETY: strings that live through each call; results are freed once.
        unsafe {
            match op {
                Op::Parse(text, flags, room) => parse(&c_string(&text.0), *flags, *room),
                Op::Code(text, plus) => code(&text.0, *plus)?,
                Op::Decode(text) => {
                    let text = c_string(&text.0);
                    observe!("decoded {}", taken(ffi::evhttp_decode_uri(text.as_ptr())));
                    let mut len = 0;
                    for plus in 0..2 {
                        let decoded = ffi::evhttp_uridecode(text.as_ptr(), plus, &raw mut len);
                        observe!("decoded {} of {len}", taken(decoded));
                    }
                }
                Op::Query(text) => query(&c_string(&text.0)),
                Op::Escape(text) => {
                    let text = c_string(&text.0);
                    observe!("escaped {}", taken(ffi::evhttp_htmlescape(text.as_ptr())));
                    observe!("encoded {}", taken(ffi::evhttp_encode_uri(text.as_ptr())));
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        Ok(())
    }
}

fn text(rng: &mut Rng) -> Vec<u8> {
    let parts: [&[&str]; 6] = [
        &["http:", "HTTP:", "a+b-c.d:", "1x:", ":", "", "", "", "ftp:"],
        &["//", "//", "/", "", "///"],
        &["host", "user:pw@host", "@host", "[::1]", "[v1.x]", "[::1", "h%41st", "a b", "1.2.3.4", "", "\u{e4}"],
        &["", "", ":80", ":", ":99999", ":65535", ":-1", ":8a"],
        &["/", "/a/b", "/%41%zz", "//x", "", "/a;b=c", "/%", "/ ", "/\t", "/\u{fc}"],
        &["", "?a=b", "?a=b&c=d%20e&&=f&g", "?", "#f", "?q#f#g", "#", "?a+b=c+d", "?%00=x", "?<>&\"'"],
    ];
    let mut text: Vec<u8> = parts.iter().flat_map(|part| part[rng.usize(..part.len())].bytes()).collect();
    match rng.u8(..6) {
        0 => super::draw::garble(rng, &mut text),
        1 => text.extend("x".repeat(rng.usize(..2000)).bytes()),
        _ => {}
    }
    text
}

/// A string that libevent has given away.
unsafe fn taken(text: *mut c_char) -> String {
    // SAFETY: null or a string of libevent's allocator, which is the case's own (`memory`).
    unsafe {
        let shown = from_c(text);
        crate::memory::free(text.cast());
        shown
    }
}

unsafe fn parse(text: &CStr, flags: u32, room: usize) {
    // SAFETY: the address is made, used and freed here.
    unsafe {
        let uri = ffi::evhttp_uri_parse_with_flags(text.as_ptr(), flags);
        if uri.is_null() {
            return observe!("no address");
        }
        observe!(
            "scheme {} user {}",
            from_c(ffi::evhttp_uri_get_scheme(uri)),
            from_c(ffi::evhttp_uri_get_userinfo(uri))
        );
        observe!("host {} port {}", from_c(ffi::evhttp_uri_get_host(uri)), ffi::evhttp_uri_get_port(uri));
        observe!("path {} query {}", from_c(ffi::evhttp_uri_get_path(uri)), from_c(ffi::evhttp_uri_get_query(uri)));
        observe!("fragment {}", from_c(ffi::evhttp_uri_get_fragment(uri)));
        let mut joined: Vec<c_char> = vec![0x55; room + 1];
        observe!("joined {}", from_c(ffi::evhttp_uri_join(uri, joined.as_mut_ptr(), room)));
        if joined[room] != 0x55 {
            crate::violate!("evhttp_uri_join writes behind {room} bytes");
        }
        observe!("host set {}", ffi::evhttp_uri_set_host(uri, text.as_ptr()));
        observe!("path set {}", ffi::evhttp_uri_set_path(uri, text.as_ptr()));
        observe!("query set {}", ffi::evhttp_uri_set_query(uri, text.as_ptr()));
        observe!("port set {}", ffi::evhttp_uri_set_port(uri, room as i32 - 2));
        observe!("scheme set {}", ffi::evhttp_uri_set_scheme(uri, null_mut()));
        ffi::evhttp_uri_free(uri);
    }
}

/// Whatever is encoded decodes to itself.
unsafe fn code(bytes: &[u8], plus: bool) -> Verdict {
    let (plus, mut len) = (i32::from(plus), 0);
    // SAFETY: as many bytes as said; results are freed once.
    unsafe {
        let (start, bytes_len) = (bytes.as_ptr().cast(), bytes.len().cast_signed());
        let encoded = ffi::evhttp_uriencode(start, bytes_len, plus);
        if encoded.is_null() {
            return Err("evhttp_uriencode failed".to_owned());
        }
        observe!("encoded {}", from_c(encoded));
        let decoded = ffi::evhttp_uridecode(encoded, plus, &raw mut len);
        let same = !decoded.is_null() && std::slice::from_raw_parts(decoded.cast::<u8>(), len) == bytes;
        crate::memory::free(encoded.cast());
        crate::memory::free(decoded.cast());
        if same || bytes.is_empty() { Ok(()) } else { Err("what was encoded does not decode to itself".to_owned()) }
    }
}

unsafe fn query(text: &CStr) {
    for whole in [true, false] {
        let mut list = ffi::evkeyvalq { tqh_first: null_mut(), tqh_last: null_mut() };
        // SAFETY: the list is initialised by the call, cleared here.
        unsafe {
            let returned = if whole {
                ffi::evhttp_parse_query(text.as_ptr(), &raw mut list)
            } else {
                ffi::evhttp_parse_query_str(text.as_ptr(), &raw mut list)
            };
            observe!("query {returned}");
            super::headers(&raw mut list);
            ffi::evhttp_clear_headers(&raw mut list);
        }
    }
}
