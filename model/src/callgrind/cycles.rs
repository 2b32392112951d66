//! Functions that call each other: strongly connected components of the call graph.

/// For each function the number of its cycle, from 1; none for one that belongs to no cycle of several functions.
///
/// R. Tarjan, Depth-first search and linear graph algorithms, SIAM Journal on Computing 1 (1972), without recursion: a
/// call graph can be deep.
pub(super) fn of(calls: &[Vec<usize>]) -> Vec<Option<u32>> {
    const UNSEEN: usize = usize::MAX;
    let count = calls.len();
    let (mut index, mut low) = (vec![UNSEEN; count], vec![0; count]);
    let (mut on_stack, mut stack) = (vec![false; count], Vec::new());
    let mut cycle = vec![None; count];
    let (mut next, mut cycles) = (0, 0);
    for root in 0..count {
        if index[root] != UNSEEN {
            continue;
        }
        // Each entry: a function, and how many of its calls were followed.
        let mut path = vec![(root, 0)];
        while let Some((function, followed)) = path.pop() {
            if followed == 0 {
                index[function] = next;
                low[function] = next;
                next += 1;
                stack.push(function);
                on_stack[function] = true;
            }
            if let Some(callee) = calls[function].get(followed).copied() {
                path.push((function, followed + 1));
                if index[callee] == UNSEEN {
                    path.push((callee, 0));
                } else if on_stack[callee] {
                    low[function] = low[function].min(index[callee]);
                }
                continue;
            }
            if let Some((caller, _)) = path.last() {
                low[*caller] = low[*caller].min(low[function]);
            }
            if low[function] == index[function] {
                let start = stack.iter().rposition(|member| *member == function).unwrap_or(0);
                let members = stack.split_off(start);
                if members.len() > 1 {
                    cycles += 1;
                }
                for member in &members {
                    on_stack[*member] = false;
                    if members.len() > 1 {
                        cycle[*member] = Some(cycles);
                    }
                }
            }
        }
    }
    cycle
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn only_functions_that_reach_each_other_are_a_cycle() {
        // 0 -> 1 -> 2 -> 1, 2 -> 3, 3 -> 3, 4 <-> 5, 6 alone.
        let calls = [vec![1], vec![2], vec![1, 3], vec![3], vec![5], vec![4], vec![]];
        let found = of(&calls);
        assert_eq!(found[1], found[2]);
        assert_eq!(found[4], found[5]);
        assert!(found[1].is_some() && found[4].is_some() && found[1] != found[4]);
        assert_eq!([found[0], found[3], found[6]], [None; 3]);
        assert_eq!(of(&[]), Vec::<Option<u32>>::new());
    }

    #[test]
    fn a_chain_as_deep_as_a_program_can_be_needs_no_stack() {
        let deep: Vec<Vec<usize>> = (0..200_000).map(|n| if n + 1 < 200_000 { vec![n + 1] } else { vec![] }).collect();
        assert!(of(&deep).iter().all(Option::is_none));
    }
}
