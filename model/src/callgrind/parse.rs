//! One pass over the file.

use super::{CallgrindError, Function, Line, Profile, cycles};
use std::collections::{BTreeMap, HashMap};

/// callgrind's name for a file or function that it does not know.
const UNKNOWN: &str = "???";
/// Longest part of a line that goes into an error.
const SHOWN: usize = 120;

/// Reads an output file.
///
/// # Errors
/// What [`CallgrindError`] lists: a file that is cut short is refused, not read half.
pub fn parse(text: &str) -> Result<Profile, CallgrindError> {
    let mut reader = Reader::default();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        last = number;
        reader.line(line).map_err(|why| match why {
            Wrong::Line(why) => CallgrindError::Syntax { line: number, why, text: line.chars().take(SHOWN).collect() },
            Wrong::File(why) => CallgrindError::Foreign(why),
        })?;
    }
    if !reader.is_callgrind {
        return Err(CallgrindError::Foreign("it has no `events:`"));
    }
    let total = reader.total.ok_or(CallgrindError::Cut(last))?;
    // Whoever wrote the file wrote the numbers: none may be too large for this program.
    let sum = reader.nodes.iter().fold(0_u64, |sum, node| sum.saturating_add(node.self_instructions));
    if sum != total {
        return Err(CallgrindError::Sum { total, sum });
    }
    Ok(reader.profile(total))
}

enum Wrong {
    Line(&'static str),
    File(&'static str),
}

/// A function is known by its object, file and name: static functions of one name are several.
type Key = (Option<String>, Option<String>, String);

#[derive(Default)]
struct Node {
    self_instructions: u64,
    /// Cost of what it calls, by number of the callee.
    callees: BTreeMap<usize, u64>,
}

#[derive(Default)]
struct Reader {
    is_callgrind: bool,
    total: Option<u64>,
    /// Names that were written once, by kind and number.
    names: HashMap<(Kind, u64), String>,
    nodes: Vec<Node>,
    keys: Vec<Key>,
    numbers: HashMap<Key, usize>,
    lines: BTreeMap<(String, u32, usize), u64>,
    object: Option<String>,
    /// File of the lines that follow: the function's, or one that code was inlined from.
    file: Option<String>,
    function: Option<usize>,
    /// For the next call alone; otherwise the callee's are the caller's.
    called_object: Option<Option<String>>,
    called_file: Option<Option<String>>,
    callee: Option<usize>,
    /// After `calls=`: the next line is the cost of the call.
    awaits_call: bool,
    position: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Object,
    File,
    Function,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Wrong> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            return self.cost(line).map_err(Wrong::Line);
        }
        if self.awaits_call {
            return Err(Wrong::Line("the cost of a call was expected"));
        }
        if let Some((word, value)) = line.split_once('=').filter(|(word, _)| !word.contains([' ', ':'])) {
            return self.specification(word, value).map_err(Wrong::Line);
        }
        match line.split_once(':') {
            Some((word, value)) => self.header(word, value.trim()),
            None => Err(Wrong::Line("neither a header, nor a name, nor a cost")),
        }
    }

    fn header(&mut self, word: &str, value: &str) -> Result<(), Wrong> {
        match word {
            "events" if value == "Ir" => self.is_callgrind = true,
            "events" => return Err(Wrong::File("it has other events than `Ir`")),
            "positions" if value != "line" => return Err(Wrong::File("its positions are no lines")),
            "part" if value != "1" => return Err(Wrong::File("it is a part of several")),
            "totals" => {
                if self.total.is_some() {
                    return Err(Wrong::File("it has two totals"));
                }
                self.total = Some(value.parse().map_err(|_| Wrong::Line("a total is a number"))?);
            }
            // version, creator, pid, cmd, desc, summary (what the tool thinks it will write): nothing of theirs is used.
            _ => {}
        }
        Ok(())
    }

    fn specification(&mut self, word: &str, value: &str) -> Result<(), &'static str> {
        match word {
            "ob" => self.object = self.name(Kind::Object, value)?,
            "fl" | "fi" | "fe" => self.file = self.name(Kind::File, value)?,
            "fn" => {
                let name = self.function_name(value)?;
                let key = (self.object.clone(), self.file.clone(), name);
                self.function = Some(self.number(key));
            }
            "cob" => self.called_object = Some(self.name(Kind::Object, value)?),
            "cfi" | "cfl" => self.called_file = Some(self.name(Kind::File, value)?),
            "cfn" => {
                let name = self.function_name(value)?;
                let object = self.called_object.take().unwrap_or_else(|| self.object.clone());
                let file = self.called_file.take().unwrap_or_else(|| self.file.clone());
                self.callee = Some(self.number((object, file, name)));
            }
            "calls" => {
                self.callee.ok_or("a call of nothing")?;
                self.awaits_call = true;
            }
            // Jumps within a function cost nothing of their own; a line with their position follows.
            "jump" | "jcnd" | "jfi" | "jfn" => {}
            _ => return Err("a name of unknown kind"),
        }
        Ok(())
    }

    fn cost(&mut self, line: &str) -> Result<(), &'static str> {
        let function = self.function.ok_or("a cost of no function")?;
        let mut words = line.split(' ');
        let position = words.next().ok_or("a cost without a line")?;
        self.position = position_after(self.position, position).ok_or("a line number that is none")?;
        // Costs of zero may be left out.
        let cost = words.next().map_or(Some(0), |cost| cost.parse::<u64>().ok()).ok_or("a cost that is no number")?;
        if words.next().is_some() {
            return Err("more than one cost");
        }
        if std::mem::take(&mut self.awaits_call) {
            let callee = self.callee.take().ok_or("a call of nothing")?;
            add(self.nodes[function].callees.entry(callee).or_default(), cost);
            return Ok(());
        }
        add(&mut self.nodes[function].self_instructions, cost);
        if let Some(file) = self.file.clone().filter(|_| cost > 0 && self.position > 0) {
            add(self.lines.entry((file, self.position, function)).or_default(), cost);
        }
        Ok(())
    }

    /// `(3) buffer.c` names and numbers, `(3)` is what was named so, anything else is a name. `???` is none.
    fn name(&mut self, kind: Kind, value: &str) -> Result<Option<String>, &'static str> {
        let numbered = value.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let name = match numbered.and_then(|(number, name)| Some((number.parse::<u64>().ok()?, name.trim_start()))) {
            Some((number, "")) => self.names.get(&(kind, number)).cloned().ok_or("a number without a name")?,
            Some((number, name)) => {
                self.names.insert((kind, number), name.to_owned());
                name.to_owned()
            }
            None => value.to_owned(),
        };
        Ok(Some(name).filter(|name| name != UNKNOWN && !name.is_empty()))
    }

    /// callgrind counts a function that is on the stack already apart, as `name'2`: here it is one function.
    fn function_name(&mut self, value: &str) -> Result<String, &'static str> {
        let name = self.name(Kind::Function, value)?.unwrap_or_else(|| UNKNOWN.to_owned());
        let once = name.rsplit_once('\'').filter(|(_, depth)| depth.bytes().all(|byte| byte.is_ascii_digit()));
        Ok(once.map_or_else(|| name.clone(), |(once, _)| once.to_owned()))
    }

    fn number(&mut self, key: Key) -> usize {
        *self.numbers.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    fn profile(self, total: u64) -> Profile {
        let graph: Vec<Vec<usize>> = self.nodes.iter().map(|node| node.callees.keys().copied().collect()).collect();
        let cycle_of = cycles::of(&graph);
        // A cycle costs what is in its functions and what they call outside.
        let mut of_cycle: BTreeMap<u32, u64> = BTreeMap::new();
        let inclusive = |number: usize| -> u64 {
            let node = &self.nodes[number];
            let within =
                |callee: usize| callee == number || cycle_of[number].is_some() && cycle_of[callee] == cycle_of[number];
            let called = node.callees.iter().filter(|(callee, _)| !within(**callee)).map(|(_, cost)| cost);
            called.fold(node.self_instructions, |sum, cost| sum.saturating_add(*cost))
        };
        for (number, cycle) in cycle_of.iter().enumerate() {
            if let Some(cycle) = cycle {
                add(of_cycle.entry(*cycle).or_default(), inclusive(number));
            }
        }
        let function = |number: usize| {
            let (object, file, name) = self.keys[number].clone();
            let cycle = cycle_of[number];
            let node = &self.nodes[number];
            Function {
                name,
                file,
                object,
                self_instructions: node.self_instructions,
                inclusive_instructions: cycle.map_or_else(|| inclusive(number), |cycle| of_cycle[&cycle]),
                cycle,
            }
        };
        let functions = (0..self.nodes.len()).map(function).filter(|f| f.inclusive_instructions > 0).collect();
        let lines = self.lines.iter().map(|((file, line, function), cost)| Line {
            file: file.clone(),
            line: *line,
            function: self.keys[*function].2.clone(),
            self_instructions: *cost,
        });
        let mut profile = Profile { total, functions, lines: lines.collect() };
        profile.sort();
        profile
    }
}

fn add(sum: &mut u64, cost: u64) {
    *sum = sum.saturating_add(cost);
}

/// The line that `word` means after line `before`: a number, `+3`, `-3` or `*` for the same.
fn position_after(before: u32, word: &str) -> Option<u32> {
    if word == "*" {
        return Some(before);
    }
    match (word.strip_prefix('+'), word.strip_prefix('-')) {
        (Some(more), _) => before.checked_add(more.parse().ok()?),
        (_, Some(less)) => before.checked_sub(less.parse().ok()?),
        _ => word.parse().ok(),
    }
}
