//! Which functions of a C file a patch changes: for readers of a report, who have to look at these.

use std::collections::BTreeMap;

/// Names of functions that differ between two versions of a C file in libevent's style (braces of functions in the first
/// column), those that are gone and new ones included; `FILE SCOPE` for what is in none, such as the list of tests.
pub fn changed(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (functions(before), functions(after));
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let mut changed: Vec<String> = names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    changed.sort();
    changed
}

/// What is in no function.
const FILE_SCOPE: &str = "FILE SCOPE";

/// Every function by name, and the rest. Functions of one name, under other conditions, are one.
fn functions(text: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |name: &str, line: &str| {
        let body = found.entry(name.to_owned()).or_default();
        body.push_str(line);
        body.push('\n');
    };
    let mut outside: Vec<&str> = Vec::new();
    let mut inside: Option<String> = None;
    for line in text.lines() {
        if let Some(name) = &inside {
            add(name, line);
            if line == "}" {
                inside = None;
            }
        } else if line == "{" {
            // The head goes back to whatever ended before it.
            let start = outside.iter().rposition(|line| ends_something(line)).map_or(0, |index| index + 1);
            let head = outside.split_off(start);
            let name = name_in(&head.join(" ")).unwrap_or(FILE_SCOPE).to_owned();
            head.iter().chain([&line]).for_each(|line| add(&name, line));
            inside = Some(name);
        } else {
            outside.push(line);
        }
    }
    // Empty lines come with functions.
    outside.iter().filter(|line| !line.trim().is_empty()).for_each(|line| add(FILE_SCOPE, line));
    found
}

fn ends_something(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line.ends_with(';') || line.ends_with('}') || line.ends_with("*/")
}

/// The name before the first parenthesis.
fn name_in(head: &str) -> Option<&str> {
    let before = head.split_once('(')?.0.trim_end();
    let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |index| index + 1);
    Some(&before[start..]).filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "#include <x.h>\n\nstatic int one;\nstatic void\ncheck(struct a *a)\n{\n\tif (a) {\n\t\tb();\n\t}\n}\n\n\
        void test_x(void *p)\n{\n\tcheck(p);\n}\n\nstruct testcase_t list[] = {\n\t{ \"x\", test_x },\n};\n";

    #[test]
    fn what_changed_is_named_by_its_function() {
        assert_eq!(changed(BEFORE, BEFORE), Vec::<String>::new());
        assert_eq!(changed(BEFORE, &BEFORE.replace("b();", "c();")), ["check"]);
        assert_eq!(changed(BEFORE, &BEFORE.replace("void test_x(void *p)", "void test_x(void *q)")), ["test_x"]);
        assert_eq!(changed(BEFORE, &BEFORE.replace("static int one", "static int two")), [FILE_SCOPE]);
        let more = BEFORE.replace("struct testcase_t", "static void\ntest_y(void *p)\n{\n}\n\nstruct testcase_t");
        assert_eq!(
            changed(BEFORE, &more.replace("test_x },", "test_x },\n\t{ \"y\", test_y },")),
            [FILE_SCOPE, "test_y"]
        );
        assert_eq!(changed(&more, BEFORE), ["test_y"], "gone");
        assert_eq!(changed("", "{\n}\n"), [FILE_SCOPE], "no function");
    }
}
