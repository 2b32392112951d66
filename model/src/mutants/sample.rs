//! The fewest seeded defects that make every stage fail once: what continuous integration has time for.

use std::collections::BTreeSet;

/// Most stages that are covered together; sets are bit masks.
const MOST_STAGES: usize = 16;

/// Which stages refused a defect, all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Kills {
    /// The defect.
    pub name: String,
    /// Stages that failed.
    pub stages: BTreeSet<String>,
    /// Time of its gates.
    pub seconds: f64,
}

/// The fewest defects whose stages together are all stages that any of them has; among as few, those that take least
/// time. Names in the order of `kills`. Beyond 16 stages the rarest 16 are covered.
pub fn sample(kills: &[Kills]) -> Vec<String> {
    let mut stages: Vec<&String> =
        kills.iter().flat_map(|of| &of.stages).collect::<BTreeSet<_>>().into_iter().collect();
    stages.sort_by_key(|stage| kills.iter().filter(|of| of.stages.contains(*stage)).count());
    stages.truncate(MOST_STAGES);
    let mask = |of: &Kills| {
        let bits = stages.iter().enumerate().filter(|(_, stage)| of.stages.contains(**stage));
        bits.fold(0_usize, |mask, (bit, _)| mask | 1 << bit)
    };
    // best[set]: fewest defects, then least time, that cover at least these stages, and which they are.
    let all = (1_usize << stages.len()) - 1;
    let mut best: Vec<Option<(usize, f64, Vec<usize>)>> = vec![None; all + 1];
    best[0] = Some((0, 0.0, vec![]));
    for (index, of) in kills.iter().enumerate() {
        let covered = mask(of);
        for set in (0..=all).rev() {
            let Some((count, seconds, chosen)) = best[set].clone() else { continue };
            let joined = set | covered;
            let (count, seconds) = (count + 1, seconds + of.seconds);
            let better = best[joined].as_ref().is_none_or(|(c, s, _)| (count, seconds) < (*c, *s));
            if joined != set && better {
                best[joined] = Some((count, seconds, [chosen, vec![index]].concat()));
            }
        }
    }
    let chosen = best[all].take().map_or(vec![], |(_, _, chosen)| chosen);
    chosen.into_iter().map(|index| kills[index].name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills(name: &str, stages: &[&str], seconds: f64) -> Kills {
        Kills { name: name.into(), stages: stages.iter().map(|stage| (*stage).to_owned()).collect(), seconds }
    }

    #[test]
    fn the_fewest_that_cover_everything() {
        let list = [
            kills("three", &["a", "b", "c"], 9.0),
            kills("slow", &["d", "e"], 9.0),
            kills("left", &["a", "b", "d"], 1.0),
            kills("right", &["c", "e"], 1.0),
            kills("none", &[], 0.1),
        ];
        assert_eq!(sample(&list), ["left", "right"], "as few as the first two, in less time");
        assert_eq!(sample(&list[..2]), ["three", "slow"]);
        assert_eq!(sample(&list[4..]), Vec::<String>::new());
        assert_eq!(sample(&[]), Vec::<String>::new());
    }

    #[test]
    fn one_that_is_alone_is_never_left_out() {
        let mut list: Vec<Kills> = (0..14).map(|n| kills(&n.to_string(), &["common"], 1.0)).collect();
        list.push(kills("alone", &["rare"], 100.0));
        let chosen = sample(&list);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.contains(&"alone".to_owned()));
    }
}
