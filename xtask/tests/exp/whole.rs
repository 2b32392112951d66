//! An experiment from its hypothesis to its end, in a run of seconds.

use crate::lab::Lab;
use serde_json::Value;
use std::fs;
use std::io::Read as _;

#[test]
fn what_has_no_patch_or_no_sense_is_refused() {
    let lab = Lab::new();
    let open = |args: &[&str]| lab.exp(&[&["open", "--technique", "t"], args].concat());
    open(&["--hypothesis", " "]).expect_code(1).expect_said(&["--hypothesis says nothing"]);
    open(&["--hypothesis", "h", "--predict", "f"]).expect_code(1).expect_said(&["SYMBOL=less"]);
    open(&["--hypothesis", "h"]).expect_code(0);
    lab.exp(&["run", "1"]).expect_code(1).expect_said(&["has no patch", "exp attach"]);
    lab.exp(&["attach", "1", "/no/such/file"]).expect_code(1).expect_said(&["neither a patch file nor the name"]);
    let forbidden = lab.desk.patch("test/bench.c", "/* faster */");
    lab.exp(&["attach", "1", forbidden.to_str().unwrap()]).expect_code(2).expect_said(&["touches test/bench.c"]);
    lab.exp(&["run", "7"]).expect_code(1).expect_said(&["no experiment `7`"]);
    assert_eq!(lab.entries().len(), 1, "nothing was written");
    lab.exp(&["park", "1", "--reason", "no idea yet"]).expect_code(0);
    lab.exp(&["run", "1"]).expect_code(1).expect_said(&["parked", "--reason"]);
}

#[test]
fn a_quick_look_is_recorded_and_can_never_be_accepted() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let ran = lab.exp(&["run", "1", "--quick"]).expect_code(3).document();
    assert_eq!(
        (&ran["schema"], &ran["partial"], &ran["id"]),
        (&"exp/1".into(), &false.into(), &Value::from(id.as_str()))
    );
    assert_eq!((&ran["state"], &ran["decision"]["verdict"]), (&"inconclusive".into(), &"inconclusive".into()));
    assert!(ran["not_run"][0].as_str().unwrap().contains("profile"), "{}", ran["not_run"]);
    assert_eq!(lab.kinds(&id), ["opened", "attached", "begun", "gated", "measured", "decided"]);

    // Every file of the folder is vouched for by an entry, and is what it says; all samples are there.
    let folder = lab.folder(&id);
    let entries = lab.entries();
    let files: Vec<(String, String)> = entries
        .iter()
        .filter_map(|entry| entry["files"].as_object())
        .flatten()
        .map(|(path, sum)| (path.clone(), sum.as_str().unwrap().to_owned()))
        .collect();
    for name in ["gate.json", "compare.json", "compare.svg", "samples.jsonl.gz"] {
        assert!(files.iter().any(|(path, _)| path.ends_with(name)), "{name}: {files:?}");
    }
    for (path, sum) in &files {
        assert_eq!(&sha256(&fs::read(folder.join(path)).unwrap()), sum, "{path}");
    }
    let samples = files.iter().find(|(path, _)| path.ends_with("samples.jsonl.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&fs::read(folder.join(&samples.0)).unwrap()[..]).read_to_string(&mut text).unwrap();
    let shown = lab.exp(&["show", &id]).expect_code(0).document();
    let pairs: usize = shown["compare"]["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|workload| workload["block_records"].as_array().unwrap())
        .map(|block| block["pairs"].as_array().unwrap().len() + block["repeated"].as_array().unwrap().len())
        .sum();
    assert_eq!(text.lines().count(), pairs);

    // No evidence, no accept; force is a person's on a terminal; doing it again needs a reason.
    let refused = lab.exp(&["accept", &id, "--reason", "it is nice"]).expect_code(3);
    refused.expect_said(&["cannot be accepted", "no gate", "no profile of both sides", "--force"]);
    lab.exp(&["accept", &id, "--reason", "it is nice", "--force"])
        .expect_code(1)
        .expect_said(&["terminal", "person's word"]);
    lab.exp(&["run", &id, "--quick"]).expect_code(3).expect_said(&["has ended", "--reason"]);
    let before = lab.entries().len();
    let count = |kind: &str| lab.kinds(&id).iter().filter(|k| *k == kind).count();
    assert_eq!((count("accepted"), before), (0, lab.entries().len()));

    // Another attempt: it is gated again and comes to the same; the comparison draws anew.
    let first = lab.inputs(&id);
    lab.exp(&["resume", &id, "--reason", "a test", "--quick"]).expect_code(3);
    let second = lab.inputs(&id);
    assert_eq!(first["gate"], second["gate"]);
    assert_ne!(first["compare"][2], second["compare"][2], "seeds of another attempt");
    assert_eq!(count("gated"), 2);
    let gates = || {
        let steps = fs::read_dir(lab.world.work.join("steps")).unwrap().flatten();
        steps.filter(|step| step.file_name().to_string_lossy().starts_with("gate-")).count()
    };
    assert_eq!(gates(), 2, "a gate that passed or failed by chance is not taken for another attempt's");

    let mail = lab.world.folder.path().join("mail");
    let export = ["export", &id, "--out", mail.to_str().unwrap(), "--author", "A B <a@b.c>"];
    let exported = lab.exp(&export).expect_code(0).expect_said(&["not accepted; the message says so"]).document();
    assert!(["clean", "differs", "not-checked"].contains(&exported["style"]["state"].as_str().unwrap()), "{exported}");
    let text = fs::read_to_string(&mail).unwrap();
    for part in
        ["\nSubject: [PATCH] ", "\nFrom: A B <a@b.c>\n", "evbuffer.add_drain.64: ", "exp reproduce", "is inconclusive"]
    {
        assert!(text.contains(part), "no `{part}` in {text}");
    }

    // On this machine, the verdict of the quick look holds: nothing certain, again.
    let again = lab.exp(&["reproduce", &id]).expect_code(0).document();
    assert_eq!((&again["holds"], &again["here"]["verdict"]), (&true.into(), &"inconclusive".into()));
    assert_eq!(lab.kinds(&id).last().unwrap(), "reproduced");
    assert_eq!(gates(), 3, "the same again is not what there was");

    let rejected = lab.exp(&["reject", &id, "--reason", "it does nothing", "--non-starter"]).expect_code(0).document();
    assert_eq!(rejected["state"], "rejected");
    lab.exp(&["attach", &id, lab.harmless().to_str().unwrap()]).expect_code(1).expect_said(&["rejected", "--follows"]);
    let listed = lab.exp(&["list"]).expect_code(0).document();
    assert_eq!(listed["experiments"][0]["state"], "rejected");
    let log = lab.exp(&["log", "1"]).expect_code(0).document();
    assert_eq!(log["entries"].as_array().unwrap().len(), lab.kinds(&id).len());
    lab.assert_nothing_is_left();
}

#[test]
#[ignore = "three exports; part of the soak"]
fn the_style_script_sees_the_patched_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let mail = lab.world.folder.path().join("mail");
    let export = |path: &str| {
        let args = ["exp", "export", &id, "--json", "--out", mail.to_str().unwrap(), "--author", "A B <a@b.c>"];
        let mut command = lab.world.command(&args);
        command.env("PATH", path);
        crate::support::finish(command).expect_code(0).document()["style"].clone()
    };
    let path = std::env::var("PATH").unwrap();
    // In the place of the formatter: it has a hunk for what only the patched file has.
    let tools = lab.world.folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let tool = tools.join("clang-format-diff");
    for (said, state) in [("grep -q evbuffer_unused_ buffer.c && echo '@@ -1 +1 @@'", "differs"), ("exit 0", "clean")] {
        fs::write(&tool, format!("#!/bin/sh\ncat > /dev/null\n{said}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(export(&format!("{}:{path}", tools.display()))["state"], state, "{said}");
    }
    fs::write(&tool, "#!/bin/sh\necho no such option >&2\n").unwrap();
    assert_eq!(export(&format!("{}:{path}", tools.display()))["state"], "not-checked", "a formatter that fails");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
