//! Public headers after the preprocessor: every macro and every declaration, whatever file it stands in.

use super::{Difference, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// What public headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name to arguments and replacement.
    pub macros: BTreeMap<String, String>,
    /// Each with one space between its words.
    pub declarations: BTreeSet<String>,
    /// Every word of the declarations.
    pub names: BTreeSet<String>,
}

/// Reads what `cc -E -dD` printed; files count whose path begins with one of `public`.
pub fn parse(text: &str, public: &[&str]) -> Headers {
    let mut headers = Headers::default();
    let (mut inside, mut code) = (false, String::new());
    for line in text.lines() {
        if let Some(path) = line_marker(line) {
            inside = public.iter().any(|folder| path.starts_with(folder));
        } else if !inside {
        } else if let Some(definition) = line.strip_prefix("#define ") {
            let end = definition.find(|c: char| !is_of_name(c)).unwrap_or(definition.len());
            let (name, replacement) = definition.split_at(end);
            headers.macros.insert(name.to_owned(), words(replacement).join(" "));
        } else if let Some(name) = line.strip_prefix("#undef ") {
            headers.macros.remove(name.trim());
        } else if line.starts_with('#') {
            // `#pragma pack` changes what follows.
            headers.declarations.insert(words(line).join(" "));
        } else {
            code.push_str(line);
            code.push('\n');
        }
    }
    for declaration in declarations(&code) {
        headers.names.extend(declaration.iter().filter(|word| word.starts_with(is_of_name)).cloned());
        headers.declarations.insert(declaration.join(" "));
    }
    headers
}

/// The file of `# 12 "path" 1 3`.
fn line_marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let (number, path) = rest.split_once(" \"")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| path.split('"').next())?
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Names, numbers and single signs; text in quotation marks is one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if is_of_name(first) {
            rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())
        } else if first == '"' {
            rest[1..].find('"').map_or(rest.len(), |end| end + 2)
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            words.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    words
}

/// Divides code at each `;` that is in no brackets, and behind the body of a function.
fn declarations(code: &str) -> Vec<Vec<String>> {
    let (mut all, mut current, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for word in words(code) {
        match word.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let ends = depth == 0 && (word == ";" || (word == "}" && is_function(&current)));
        if word != ";" || depth > 0 {
            current.push(word);
        }
        if ends && !current.is_empty() {
            all.push(std::mem::take(&mut current));
        }
    }
    all.extend(Some(current).filter(|left| !left.is_empty()));
    all
}

/// Whether words before a `}` are those of a function and not of a type: its `{` comes behind a `)`.
fn is_function(words: &[String]) -> bool {
    let body = words.iter().position(|word| word == "{");
    let is_type = words.first().is_some_and(|word| word == "typedef");
    !is_type && body.is_some_and(|at| at > 0 && words[at - 1] == ")")
}

/// The name under which a declaration is spoken of: the function, the type, or the last word.
fn name_of(declaration: &str) -> String {
    let words: Vec<&str> = declaration.split(' ').collect();
    // `typedef void ( * name ) ( int )`
    let pointed = words.windows(4).find(|four| four[0] == "(" && four[1] == "*" && four[3] == ")").map(|four| four[2]);
    if let (Some("typedef"), Some(name)) = (words.first().copied(), pointed) {
        return name.to_owned();
    }
    let first_bracket = words.iter().position(|word| matches!(*word, "(" | "{"));
    let name = match (words.first().copied(), first_bracket) {
        (Some("struct" | "union" | "enum"), Some(at)) if words[at] == "{" => return words[..at].join(" "),
        (Some("typedef"), _) | (_, None) => words.iter().rev().find(|word| word.starts_with(is_of_name)),
        (_, Some(at)) => words[..at].last(),
    };
    name.map_or_else(|| declaration.to_owned(), |name| (*name).to_owned())
}

/// Whatever public headers say otherwise. What they say in addition is a difference, too: programs could use it.
pub(super) fn differences(before: &Headers, now: &Headers) -> Vec<Difference> {
    let by_name = |these: &Headers, those: &Headers| -> BTreeMap<String, Vec<String>> {
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for declaration in these.declarations.difference(&those.declarations) {
            named.entry(name_of(declaration)).or_default().push(declaration.clone());
        }
        named
    };
    let (old, new) = (by_name(before, now), by_name(now, before));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let declarations = names.into_iter().map(|name| Difference {
        subject: Subject::Declaration,
        name: name.clone(),
        what: was_and_is(old.get(name).map(|all| all.join("; ")), new.get(name).map(|all| all.join("; "))),
    });
    let names: BTreeSet<&String> = before.macros.keys().chain(now.macros.keys()).collect();
    let changed = names.into_iter().filter(|name| before.macros.get(*name) != now.macros.get(*name));
    let macros = changed.map(|name| Difference {
        subject: Subject::Macro,
        name: name.clone(),
        what: was_and_is(before.macros.get(name).cloned(), now.macros.get(name).cloned()),
    });
    declarations.chain(macros).collect()
}

fn was_and_is(old: Option<String>, new: Option<String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => {
            // Of long ones, from shortly before the first difference.
            let same = old.chars().zip(new.chars()).take_while(|(one, other)| one == other).count();
            let from = if old.len().max(new.len()) > MOST { same.saturating_sub(BEFORE) } else { 0 };
            format!("was `{}`, is `{}`", shortened(&old, from), shortened(&new, from))
        }
        (Some(old), None) => format!("is not declared any more: `{}`", shortened(&old, 0)),
        (None, new) => format!("is new: `{}`", shortened(&new.unwrap_or_default(), 0)),
    }
}

/// Most characters that are shown of a declaration, and of what is the same on both sides.
const MOST: usize = 200;
const BEFORE: usize = 40;

fn shortened(text: &str, from: usize) -> String {
    let mut characters = text.chars().skip(from);
    let shown: String = characters.by_ref().take(MOST).collect();
    let (before, after) = (if from > 0 { "... " } else { "" }, if characters.next().is_some() { " ..." } else { "" });
    format!("{before}{shown}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# 0 \"probe.c\"\n#define __GNUC__ 12\n# 1 \"/i/event2/event.h\" 1\n#define EV_READ 0x02\n\
        #define evtimer_new(b,cb) event_new((b), -1)\n#pragma pack(4)\n# 1 \"/usr/include/stdlib.h\" 1 3\nextern int \
        atoi(const char *);\n#define EXIT 1\n# 9 \"/i/event2/event.h\" 2\nstruct event {\n int fd;\n struct { int x; } \
        u;\n};\nint event_add(struct event *ev,\n  int\tx);\ntypedef void (*event_cb)(int);\nstatic inline int half(int \
        x) { return x / 2; }\nenum kind { A, B = 4 };\n";

    #[test]
    fn declarations_and_macros_of_public_headers_are_read() {
        let headers = parse(TEXT, &["/i/"]);
        assert_eq!(headers.macros["EV_READ"], "0x02");
        assert_eq!(headers.macros["evtimer_new"], "( b , cb ) event_new ( ( b ) , - 1 )");
        assert_eq!(headers.macros.len(), 2);
        let names: Vec<String> = headers.declarations.iter().map(|declaration| name_of(declaration)).collect();
        for name in ["struct event", "event_add", "event_cb", "half", "enum kind"] {
            assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
        }
        assert_eq!(headers.declarations.len(), 6, "{:?}", headers.declarations);
        assert!(headers.names.contains("event_add") && !headers.names.contains("atoi"));
    }

    #[test]
    fn spaces_are_no_difference_and_everything_else_is() {
        let before = parse(TEXT, &["/i/"]);
        let found = |from: &str, to: &str| {
            let now = parse(&TEXT.replace(from, to), &["/i/"]);
            let all = differences(&before, &now);
            all.iter().map(|difference| difference.to_string()).collect::<Vec<_>>()
        };
        assert!(found("int\tx", "int   x").is_empty());
        assert!(found("atoi(", "atol(").is_empty(), "of the system");
        assert_eq!(found("0x02", "0x04"), ["EV_READ: was `0x02`, is `0x04`"]);
        assert_eq!(found("int\tx", "long x").len(), 1);
        assert!(found("B = 4", "B = 5")[0].starts_with("enum kind: was"));
        assert!(found("int fd;", "int fd; int more;")[0].starts_with("struct event: was"));
        assert!(found("int event_add(struct event *ev,\n  int\tx);", "")[0].contains("not declared any more"));
        assert!(!found("pack(4)", "pack(2)").is_empty());
        let long = "int x; ".repeat(60);
        let before = parse(&TEXT.replace("int fd;", &long), &["/i/"]);
        let now = parse(&TEXT.replace("int fd;", &format!("{long} long y;")), &["/i/"]);
        let what = &differences(&before, &now)[0].what;
        assert!(what.contains("is `... ") && what.contains("long y") && what.len() < 500, "{what}");
        assert!(found("#define EV_READ 0x02\n", "")[0].contains("not declared any more"));
    }
}
