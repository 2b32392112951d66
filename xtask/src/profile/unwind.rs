//! Whole stacks of a sample: by frame pointers, and through code without them by its unwind tables.
//!
//! libevent is built with frame pointers; the C library and Rust's code are not. The kernel's chain of frame pointers loses
//! the caller of every function without one: the time of a system call would miss `epoll_dispatch`, which made it. So the
//! copy of the stack that comes with a sample is unwound by tables, and continued by frame pointers where it ends.

use super::ring::Sample;
use super::symbols::{Module, Symbolizer};
use model::profile::stacks::{Frame, Origin};
use std::collections::HashSet;

/// The function around the work of a batch (bench-harness/src/worker/batch.rs).
pub(super) const WORK: &str = "bench_timed_batch";

/// Marks in call chains (linux/perf_event.h, `enum perf_callchain_context`).
const CONTEXT_KERNEL: u64 = (-128_i64).cast_unsigned();
const CONTEXT_USER: u64 = (-512_i64).cast_unsigned();
/// All marks lie at or above this.
const CONTEXT_MAX: u64 = (-4095_i64).cast_unsigned();

/// What a reader must know of stacks if the worker's tables are left out.
pub(super) const WITHOUT_TABLES: &str = "the worker's unwind tables are not such as compilers write, and could be followed without end: its \
                                         functions are on stacks by frame pointers alone, and some callers are missing";

/// Deepest stack.
const MOST_FRAMES: usize = 512;

/// The parts of a call chain, each the innermost first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) kernel: Vec<u64>,
    pub(super) user: Vec<u64>,
}

impl Chain {
    pub(super) fn split(callchain: &[u64]) -> Chain {
        let mut chain = Chain::default();
        let mut in_kernel = false;
        for &address in callchain {
            match address {
                CONTEXT_KERNEL => in_kernel = true,
                CONTEXT_USER => in_kernel = false,
                mark if mark >= CONTEXT_MAX => {}
                address if in_kernel => chain.kernel.push(address),
                address => chain.user.push(address),
            }
        }
        chain
    }
}

/// Continues what tables found by what frame pointers found: from the deepest address on that both have. Both begin at the
/// innermost address. Without a common one, the deeper chain is taken.
fn joined(tables: Vec<u64>, pointers: &[u64]) -> Vec<u64> {
    let meeting = tables.iter().rposition(|address| pointers.contains(address));
    match meeting.and_then(|place| Some((place, pointers.iter().rposition(|address| *address == tables[place])?))) {
        Some((place, same)) => {
            let rest = &pointers[same + 1..];
            // Where tables went on beyond the meeting they are right.
            if tables.len() - place > rest.len() { tables } else { [&tables[..=place], rest].concat() }
        }
        None if tables.len() >= pointers.len() => tables,
        None => pointers.to_vec(),
    }
}

/// Unwinds stacks of one process.
pub(super) struct Stacks {
    pub(super) symbols: Symbolizer,
    native: native::Unwinder,
    /// Where the function around the work returns to.
    returns: HashSet<u64>,
}

impl Stacks {
    pub(super) fn new(symbols: Symbolizer) -> Stacks {
        let native = native::Unwinder::new(&symbols.modules);
        let returns = symbols.returns_from(WORK);
        Stacks { symbols, native, returns }
    }

    /// Whether the worker has tables that are not followed: see [`WITHOUT_TABLES`].
    pub(super) fn are_tables_left_out(&self) -> bool {
        self.native.left_out
    }

    /// The functions of a sample, the outermost first.
    pub(super) fn frames(&mut self, sample: &Sample) -> Vec<Frame> {
        let chain = Chain::split(&sample.callchain);
        let tables = self.native.unwind(&sample.registers, &sample.stack);
        let user = joined(tables, &chain.user);
        // The innermost is where it was; the others are where it will return to, behind the call.
        let at_call = |(depth, address): (usize, u64)| if depth == 0 { address } else { address.wrapping_sub(1) };
        let mut frames: Vec<Frame> = Vec::with_capacity(user.len() + chain.kernel.len());
        for (depth, address) in user.into_iter().take(MOST_FRAMES).enumerate() {
            let returns = depth > 0 && self.returns.contains(&address);
            if returns && frames.last().is_none_or(|frame| frame.symbol != WORK) {
                // Its last call was made a jump: what it called returns to its caller.
                frames.push(Frame::new(WORK, Origin::Workload));
            }
            frames.push(self.symbols.user(at_call((depth, address))));
        }
        frames.reverse();
        let kernel = chain.kernel.into_iter().enumerate().map(at_call).collect::<Vec<_>>();
        frames.extend(kernel.into_iter().rev().map(|address| self.symbols.kernel(address)));
        frames
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod native {
    use super::super::{cfi, symbols};
    use super::{MOST_FRAMES, Module};
    use framehop::{
        CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, UnwindRegsNative, Unwinder as _,
        UnwinderNative,
    };
    use object::{Object as _, ObjectSection as _};

    pub(super) struct Unwinder {
        /// Tables of the worker.
        pub(super) left_out: bool,
        unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
        cache: CacheNative<MayAllocateDuringUnwind>,
    }

    impl Unwinder {
        pub(super) fn new(modules: &[Module]) -> Unwinder {
            let mut unwinder = UnwinderNative::new();
            let mut left_out = false;
            for module in modules {
                if let Some(mut sections) = sections(module) {
                    if module.is_worker {
                        // The index of a table may point anywhere in it: framehop makes one of its own.
                        (sections.eh_frame_hdr, sections.eh_frame_hdr_svma) = (None, None);
                        if sections.eh_frame.as_ref().is_some_and(|tables| !cfi::is_bounded(tables)) {
                            left_out = true;
                            continue;
                        }
                    }
                    let range = module.mapping.start..module.mapping.end;
                    unwinder.add_module(framehop::Module::new(
                        module.mapping.path.clone(),
                        range,
                        module.bias,
                        sections,
                    ));
                }
            }
            Unwinder { left_out, unwinder, cache: CacheNative::new() }
        }

        /// Addresses, the innermost first, as far as the copy of the stack reaches.
        pub(super) fn unwind(&mut self, registers: &[u64], stack: &[u8]) -> Vec<u64> {
            let Some((ip, sp, registers)) = registers_of(registers) else { return vec![] };
            let mut read = |address: u64| -> Result<u64, ()> {
                let begin = usize::try_from(address.checked_sub(sp).ok_or(())?).map_err(|_| ())?;
                let bytes = stack.get(begin..begin.checked_add(8).ok_or(())?).ok_or(())?;
                Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| ())?))
            };
            let mut frames = self.unwinder.iter_frames(ip, registers, &mut self.cache, &mut read);
            let mut addresses = Vec::new();
            while let Ok(Some(frame)) = frames.next() {
                addresses.push(frame.address());
                if addresses.len() >= MOST_FRAMES {
                    break;
                }
            }
            addresses
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn registers_of(values: &[u64]) -> Option<(u64, u64, UnwindRegsNative)> {
        let [bp, sp, ip] = *values else { return None };
        Some((ip, sp, UnwindRegsNative::new(ip, sp, bp)))
    }

    #[cfg(target_arch = "aarch64")]
    fn registers_of(values: &[u64]) -> Option<(u64, u64, UnwindRegsNative)> {
        let [fp, lr, sp, pc] = *values else { return None };
        Some((pc, sp, UnwindRegsNative::new(lr, sp, fp)))
    }

    /// The parts of a file that say how its functions are unwound.
    fn sections(module: &Module) -> Option<ExplicitModuleSectionInfo<Vec<u8>>> {
        let file = object::File::parse(&*module.bytes).ok()?;
        let range = |name: &str| {
            let section = file.section_by_name(name)?;
            Some(section.address()..symbols::end(section.address(), section.size())?)
        };
        let data = |name: &str| Some(file.section_by_name(name)?.data().ok()?.to_vec());
        Some(ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: range(".text"),
            text: data(".text"),
            got_svma: range(".got"),
            eh_frame_svma: range(".eh_frame"),
            eh_frame: data(".eh_frame"),
            eh_frame_hdr_svma: range(".eh_frame_hdr"),
            eh_frame_hdr: data(".eh_frame_hdr"),
            ..Default::default()
        })
    }
}

/// Frame pointers alone.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod native {
    use super::Module;

    pub(super) struct Unwinder {
        pub(super) left_out: bool,
    }

    impl Unwinder {
        pub(super) fn new(_modules: &[Module]) -> Unwinder {
            Unwinder { left_out: false }
        }

        pub(super) fn unwind(&mut self, _registers: &[u64], _stack: &[u8]) -> Vec<u64> {
            vec![]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_divide_a_chain_into_kernel_and_user_space() {
        let chain = Chain::split(&[CONTEXT_KERNEL, 0xffff_ffff_8100_0000, 0xffff_ffff_8100_0010, CONTEXT_USER, 1, 2]);
        assert_eq!(chain.kernel.len(), 2);
        assert_eq!(chain.user, [1, 2]);
        assert_eq!(Chain::split(&[CONTEXT_USER, 5]), Chain { kernel: vec![], user: vec![5] });
        assert_eq!(Chain::split(&[]), Chain::default());
    }

    #[test]
    fn frame_pointers_continue_where_tables_end() {
        // 2 is a caller that frame pointers miss; tables end at 4, since the copy of the stack does.
        assert_eq!(joined(vec![1, 2, 3, 4], &[1, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(joined(vec![1, 2, 3, 4, 5], &[1, 3]), [1, 2, 3, 4, 5], "tables that reach further are right");
        assert_eq!(joined(vec![], &[1, 2]), [1, 2]);
        assert_eq!(joined(vec![1, 2], &[]), [1, 2]);
        assert_eq!(joined(vec![9], &[1, 2]), [1, 2]);
        assert!(joined(vec![], &[]).is_empty());
    }
}
