//! What sanitizers print, shortened to what stays the same when lines move: kind and functions.

use std::collections::BTreeSet;

/// Frames of the caller that tell two leaks apart.
const LEAK_FRAMES: usize = 4;

/// Every finding in the standard error of a program: `ThreadSanitizer: data race in f with g`. Addresses, line
/// numbers and sizes are left out, since a patch that moves code moves them.
pub fn reports(text: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some((_, rest)) = line.split_once("SUMMARY: ") {
            found.extend(summary(rest, &lines[..index]));
        } else if let Some((place, what)) = line.split_once(": runtime error: ") {
            found.insert(undefined(place, what, lines.get(index + 1).copied()));
        } else if line.starts_with("Direct leak of ") || line.starts_with("Indirect leak of ") {
            let kind = if line.starts_with('D') { "leak" } else { "indirect leak" };
            let frames = block(&lines[index + 1..]).filter_map(function).filter(|name| !is_allocator(name));
            let from: Vec<&str> = frames.take(LEAK_FRAMES).collect();
            found.insert(format!("LeakSanitizer: {kind} from {}", from.join(" < ")));
        }
    }
    found
}

/// Why a sanitizer cannot work here at all, where it says so: nothing is known of the program then.
pub fn cannot_run(text: &str) -> Option<&str> {
    let says = |line: &&str| {
        let of_sanitizer = line.contains("Sanitizer");
        of_sanitizer
            && (line.contains("FATAL:")
                || line.contains("has encountered a fatal error")
                || line.contains("CHECK failed")
                || line.contains("failed to allocate")
                || line.contains("Shadow memory range interleaves"))
    };
    text.lines().find(says).map(str::trim)
}

/// `Tool: kind file:line in function`. A summary of leaks counts bytes; the leaks themselves are above it.
fn summary(rest: &str, above: &[&str]) -> Option<String> {
    let (tool, what) = rest.split_once(": ")?;
    if what.contains("leaked in") || tool.starts_with("Undefined") {
        return None;
    }
    let (what, place) = what.split_once(" in ").unwrap_or((what, ""));
    let kind: Vec<&str> =
        what.split(' ').take_while(|word| !word.contains(['/', ':']) && !word.contains('.')).collect();
    let function = place.split([' ', '(']).next().unwrap_or_default();
    let other = (tool == "ThreadSanitizer").then(|| second_stack(above, function)).flatten();
    let with = other.map_or(String::new(), |name| format!(" with {name}"));
    Some(format!("{tool}: {} in {function}{with}", kind.join(" ")))
}

/// The other side of a race: the first named function with source of the second stack of the block above.
fn second_stack<'a>(above: &[&'a str], first: &str) -> Option<&'a str> {
    let start = above.iter().rposition(|line| line.contains("WARNING: ThreadSanitizer"))?;
    let mut tops = Vec::new();
    let mut wanted = false;
    for line in &above[start..] {
        let line = line.trim_start();
        wanted |= line.starts_with("#0 ");
        if wanted && line.starts_with('#') && line.contains(".c:") {
            tops.extend(function(line));
            wanted = false;
        }
    }
    // Which of the two is first is chance.
    tops.into_iter().take(2).find(|name| *name != first)
}

fn undefined(place: &str, what: &str, next: Option<&str>) -> String {
    let file = place.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let kind: Vec<&str> = what.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect();
    let within = next.map(str::trim_start).filter(|line| line.starts_with("#0 ")).and_then(function);
    let within = within.map_or(String::new(), |name| format!(" in {name}"));
    format!("UndefinedBehaviorSanitizer: {}{within} ({file})", kind.join(" "))
}

/// The lines of a stack, up to the empty one behind it.
fn block<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    lines.iter().map(|line| line.trim_start()).take_while(|line| line.starts_with('#'))
}

/// `#1 0x55 in name file:line` and `#1 name file:line (module+0x1)`; of `#1 0x55  (module+0x1)`, a place without a
/// name, the file of the module: addresses are others in every run.
fn function(frame: &str) -> Option<&str> {
    let mut words = frame.trim_start().split(' ').skip(1);
    let first = words.next()?;
    if !first.starts_with("0x") {
        return Some(first);
    }
    match words.next() {
        Some("in") => words.next(),
        _ => Some(frame.rsplit_once('+').and_then(|(path, _)| path.rsplit_once('/')).map_or("?", |(_, file)| file)),
    }
}

fn is_allocator(name: &str) -> bool {
    let name = name.trim_start_matches("__interceptor_");
    ["malloc", "calloc", "realloc", "strdup", "posix_memalign", "event_mm_"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let found = reports(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn places_without_a_name_are_those_of_their_module() {
        let leak = |address: &str, junk: &str| {
            let text = format!(
                "Indirect leak of 9 byte(s) in 1 object(s) allocated from:\n    #0 {address} in malloc x.cpp:1\n    \
                 #1 {address}  (/lib/libcrypto.so.3+0xe60f8)\n    #2 {junk}  (<unknown module>)\n"
            );
            one(&text)
        };
        assert_eq!(leak("0x7fa288", "0xb00e47"), "LeakSanitizer: indirect leak from libcrypto.so.3 < ?");
        assert_eq!(leak("0x7fa288", "0xb00e47"), leak("0x7f9e19", "0x26bd95"));
    }

    #[test]
    fn addresses_and_lines_are_left_out() {
        let text = |line| {
            format!(
                "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x60\n    #0 0x5 in evbuffer_drain \
                 /src/buffer.c:{line}\n\nSUMMARY: AddressSanitizer: heap-use-after-free /src/buffer.c:{line}:9 in \
                 evbuffer_drain\n"
            )
        };
        assert_eq!(one(&text(1)), "AddressSanitizer: heap-use-after-free in evbuffer_drain");
        assert_eq!(one(&text(1)), one(&text(2)));
    }

    #[test]
    fn a_race_has_two_sides() {
        let text = "WARNING: ThreadSanitizer: data race (pid=1)\n  Write of size 4 at 0x7 by thread T2:\n    #0 memcpy \
             <null> (regress+0x1)\n    #1 event_a /src/event.c:260 (regress+0x1)\n    #2 main /src/m.c:1 (r+0x2)\n\n  Previous \
             write of size 4 at 0x7 by thread T1:\n    #0 event_b /src/event.c:270 (regress+0x1)\n\nSUMMARY: \
             ThreadSanitizer: data race /src/event.c:260 in event_a\n";
        assert_eq!(one(text), "ThreadSanitizer: data race in event_a with event_b");
    }

    #[test]
    fn leaks_are_told_apart_by_who_allocated() {
        let text = "Direct leak of 32 byte(s) in 1 object(s) allocated from:\n    #0 0x1 in malloc (/lib/a)\n    #1 0x2 in \
             event_mm_malloc_ /s/event.c:3\n    #2 0x2 in evbuffer_new /s/buffer.c:1\n    #3 0x3 in f /s/x.c:3\n\nSUMMARY: \
             AddressSanitizer: 32 byte(s) leaked in 1 allocation(s).\n";
        assert_eq!(one(text), "LeakSanitizer: leak from evbuffer_new < f");
    }

    #[test]
    fn undefined_behaviour_has_no_summary_of_use() {
        let text = "/s/http.c:12:3: runtime error: left shift of 255 by 24 places cannot be represented\n    #0 0x1 in parse \
             /s/http.c:12\nSUMMARY: UndefinedBehaviorSanitizer: undefined-behavior /s/http.c:12:3\n";
        let expected = "UndefinedBehaviorSanitizer: left shift of by places cannot be represented in parse (http.c)";
        assert_eq!(one(text), expected);
        assert!(reports("[warn] a SUMMARY of nothing\n").is_empty());
    }

    #[test]
    fn a_sanitizer_that_cannot_work_says_so() {
        let fatal = "==1==FATAL: ThreadSanitizer: unexpected memory mapping 0x1-0x2\n";
        assert_eq!(cannot_run(fatal), Some(fatal.trim()));
        assert!(cannot_run("==9==LeakSanitizer has encountered a fatal error.\n").is_some());
        assert_eq!(cannot_run("==1==ERROR: AddressSanitizer: heap-use-after-free\n"), None);
    }
}
