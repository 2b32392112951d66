//! HTTP as it comes over the wire: mostly valid, often odd, sometimes hostile.

use crate::Rng;

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn line_end(rng: &mut Rng) -> &'static str {
    if rng.u8(..12) == 0 { pick(rng, &["\n", "\r\r\n", "\r"]) } else { "\r\n" }
}

/// A request, with its body.
pub(crate) fn request(rng: &mut Rng) -> Vec<u8> {
    let odd = rng.u8(..3) == 0;
    let mut text = Vec::new();
    let method = if odd && rng.bool() {
        pick(rng, &["get", "FOO", "", "GETT", "CONNECT", "TRACE", "PATCH", "POST ", "\0GET", "PROPFIND"])
    } else {
        pick(rng, &["GET", "GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"])
    };
    let target = if odd && rng.bool() { odd_target(rng) } else { target(rng) };
    let version = if odd && rng.u8(..3) == 0 {
        pick(rng, &["HTTP/1.", "HTTP/2.0", "HTTP/0.9", "HTTQ/1.1", "", "HTTP/1.1 x", "HTTP/11.1", "HTTP/1.99999999999"])
    } else {
        pick(rng, &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])
    };
    text.extend(format!("{method} {target} {version}{}", line_end(rng)).bytes());
    header_lines(rng, &mut text, odd);
    if rng.u8(..6) == 0 {
        text.extend(b"Expect: 100-continue\r\n");
    }
    let wants_body = matches!(method, "POST" | "PUT") || rng.u8(..8) == 0;
    body(rng, &mut text, wants_body, odd);
    if rng.u8(..25) == 0 {
        garble(rng, &mut text);
    }
    text
}

fn target(rng: &mut Rng) -> String {
    let path = pick(rng, &["/now", "/now", "/chunk", "/later", "/error", "/close", "/big", "/none"]);
    format!("{path}{}", pick(rng, &["", "", "?a=b&c=%20d", "#x", "/../etc/%2e%2e?"]))
}

fn odd_target(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => "*".to_owned(),
        1 => format!("http://user@host.example:80{}", target(rng)),
        2 => "http://[::1]:99999/now".to_owned(),
        3 => format!("/{}", "a".repeat(rng.usize(..9000))),
        4 => "host.example:443".to_owned(),
        5 => "//now//x".to_owned(),
        6 => "/now%zz%0d%0aX: y".to_owned(),
        _ => pick(rng, &["", "now", "/\u{7f}", "/a b", "http://", "://", "http:///now", "/%", "?q"]).to_owned(),
    }
}

/// Some headers; shared with responses.
pub(crate) fn header_lines(rng: &mut Rng, text: &mut Vec<u8>, odd: bool) {
    for _ in 0..rng.usize(..5) {
        let line = if odd && rng.bool() {
            match rng.u8(..12) {
                0 => "NoColon".to_owned(),
                1 => ": no name".to_owned(),
                2 => "Folded: a\r\n \t b\r\n\tc".to_owned(),
                3 => format!("Huge: {}", "h".repeat(rng.usize(..12_000))),
                4 => "Space : before".to_owned(),
                5 => " leading: space".to_owned(),
                6 => "Empty:".to_owned(),
                7 => "Null: a\0b".to_owned(),
                8 => "Tabs:\t\tx\t\t".to_owned(),
                9 => format!("N{}: x", "n".repeat(rng.usize(..3000))),
                10 => "Cr: a\rb".to_owned(),
                _ => "Transfer-Encoding: gzip, chunked".to_owned(),
            }
        } else {
            pick(
                rng,
                &[
                    "Host: example.org",
                    "Host: other.example:8080",
                    "Connection: close",
                    "Connection: keep-alive",
                    "Proxy-Connection: keep-alive",
                    "Accept: */*",
                    "X-Same: 1",
                    "x-same: 2",
                    "User-Agent: model",
                    "Connection: Keep-Alive, Upgrade",
                    "Content-Type: text/plain",
                    "Cookie: a=b; c=d",
                ],
            )
            .to_owned()
        };
        text.extend(line.bytes());
        text.extend(line_end(rng).bytes());
    }
}

/// The end of the headers, and what follows.
pub(crate) fn body(rng: &mut Rng, text: &mut Vec<u8>, wanted: bool, odd: bool) {
    let len = if rng.u8(..6) == 0 { rng.usize(..20_000) } else { rng.usize(..60) };
    let bytes: Vec<u8> = (0..len).map(|index| b'a' + (index % 26) as u8).collect();
    match (wanted, rng.u8(..8)) {
        (false, _) => text.extend(b"\r\n"),
        (true, 0..=2) => {
            text.extend(b"Transfer-Encoding: chunked\r\n");
            if odd && rng.bool() {
                text.extend(format!("Content-Length: {len}\r\n").bytes());
            }
            text.extend(b"\r\n");
            chunks(rng, text, &bytes, odd);
        }
        (true, 3) if odd => {
            let wrong = pick(
                rng,
                &["-1", "x", "1x", "", "99999999999999999999", "0x10", " 5 ", "+3", "5, 5", "5\r\nContent-Length: 6"],
            );
            text.extend(format!("Content-Length: {wrong}\r\n\r\n").bytes());
            text.extend(&bytes);
        }
        (true, 4) if odd => {
            let off = len.saturating_add_signed(rng.isize(-5..40));
            text.extend(format!("Content-Length: {off}\r\n\r\n").bytes());
            text.extend(&bytes);
        }
        (true, 5) if odd => {
            text.extend(b"\r\n");
            text.extend(&bytes);
        }
        (true, _) => {
            text.extend(format!("Content-Length: {len}\r\n\r\n").bytes());
            text.extend(&bytes);
        }
    }
}

fn chunks(rng: &mut Rng, text: &mut Vec<u8>, bytes: &[u8], odd: bool) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
        let extension = if odd && rng.u8(..3) == 0 { pick(rng, &[";a=b", ";", " ", "; x=\"y\"", "\t"]) } else { "" };
        text.extend(format!("{:x}{extension}\r\n", now.len()).bytes());
        text.extend(now);
        text.extend(if odd && rng.u8(..12) == 0 { "" } else { line_end(rng) }.bytes());
        if odd && rng.u8(..10) == 0 {
            text.extend(
                pick(rng, &["zz\r\n", "-1\r\n", "ffffffffffffffff\r\n", "\r\n", "7fffffff\r\n", "0x3\r\nabc\r\n"])
                    .bytes(),
            );
        }
        rest = later;
    }
    text.extend(b"0\r\n");
    if rng.u8(..4) == 0 {
        header_lines(rng, text, odd);
    }
    text.extend(b"\r\n");
}

/// Damages some bytes.
pub(crate) fn garble(rng: &mut Rng, text: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        if text.is_empty() {
            return;
        }
        let at = rng.usize(..text.len());
        match rng.u8(..3) {
            0 => text[at] = rng.u8(..),
            1 => drop(text.remove(at)),
            _ => text.truncate(at),
        }
    }
}

/// A response to the client, with its body.
pub(crate) fn response(rng: &mut Rng) -> Vec<u8> {
    let odd = rng.u8(..3) == 0;
    let mut text = Vec::new();
    let status = if odd && rng.bool() {
        pick(
            rng,
            &[
                "HTTP/1.1 200",
                "HTTP/1.1",
                "HTTP/1.1 abc x",
                "HTTP/1.1 -1 x",
                "",
                "ICY 200 OK",
                "HTTP/1.1 99999 x",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
            ],
        )
    } else {
        pick(
            rng,
            &[
                "HTTP/1.1 200 OK",
                "HTTP/1.1 200 OK",
                "HTTP/1.0 200 OK",
                "HTTP/1.1 404 Not Found",
                "HTTP/1.1 204 No Content",
                "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/",
                "HTTP/1.1 304 Not Modified",
                "HTTP/1.1 500 x y z",
            ],
        )
    };
    text.extend(format!("{status}{}", line_end(rng)).bytes());
    header_lines(rng, &mut text, odd);
    let wanted = rng.u8(..6) > 0;
    body(rng, &mut text, wanted, odd);
    if rng.u8(..25) == 0 {
        garble(rng, &mut text);
    }
    text
}

/// Where a text is cut, in parts: nowhere, at one place, or again and again.
pub(crate) fn split(rng: &mut Rng, text: &[u8]) -> Vec<Vec<u8>> {
    let most = match rng.u8(..5) {
        0 | 1 => 1,
        2 => 2,
        3 => 12,
        _ => {
            // The last bytes one by one.
            let (now, later) = text.split_at(text.len().saturating_sub(rng.usize(1..50)));
            return std::iter::once(now)
                .chain(later.chunks(1))
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
        }
    };
    let mut parts = Vec::new();
    let mut rest = text;
    while parts.len() + 1 < most && rest.len() > 1 {
        // Near the front, too, where lines end.
        let room = if rng.bool() { rest.len().min(40) } else { rest.len() };
        let (now, later) = rest.split_at(rng.usize(1..room));
        parts.push(now.to_vec());
        rest = later;
    }
    parts.push(rest.to_vec());
    parts
}
