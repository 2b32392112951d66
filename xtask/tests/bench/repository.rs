//! What must not be in the repository's files.

use crate::support::{checkout, own_files};
use std::fs;

#[test]
fn no_left_overs_and_no_paths_of_one_machine() {
    // Put together here, so that this file does not contain what it looks for.
    let unwanted = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "/home".to_owned() + "/"];
    let folder_of_root = "/root".to_owned() + "/";
    let mut found = Vec::new();
    let files = own_files();
    assert!(files.iter().any(|name| name == "xtask/src/main.rs"), "the list of files is empty: {files:?}");
    for name in files.iter().filter(|name| !name.ends_with("Cargo.lock")) {
        let text = String::from_utf8_lossy(&fs::read(checkout().join(name)).unwrap()).into_owned();
        // Of a patch, only what it adds is this repository's; the rest is libevent's.
        let is_patch = name.ends_with(".patch");
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !is_patch || line.starts_with('+')) {
            // A folder called root may lie inside another one, such as /opt/rh/*/root/usr.
            let starts_at_root = line.match_indices(&folder_of_root).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "*_.-".contains(c))
            });
            if starts_at_root || unwanted.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
