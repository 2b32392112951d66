//! Records of perf events as the kernel writes them (perf_event_open(2), "MMAP layout"), read from one ring for each event
//! and thread. No record is believed: one that ends too early is counted and left out.

use anyhow::{Context as _, Result};
use perf_event::{Builder, SampleFlag, Sampler};
use std::io;

const RECORD_LOST: u32 = 2;
const RECORD_SAMPLE: u32 = 9;
const RECORD_LOST_SAMPLES: u32 = 13;
const RECORD_SWITCH: u32 = 14;
const MISC_SWITCH_OUT: u16 = 1 << 13;
const MISC_SWITCH_OUT_PREEMPT: u16 = 1 << 14;

/// A record's header, and about as much as a record has besides a copy of the stack.
const HEADER_BYTES: usize = 8;
const OTHER_BYTES: usize = 2048;

/// The smallest ring that is of use: some records with their stacks.
const SMALLEST_BYTES: usize = 1 << 15;
/// Of 8 MiB, that is the smallest.
const MOST_HALVINGS: u32 = 8;

/// Largest count of addresses in a call chain that is believed.
const MOST_FRAMES: u64 = 4096;

/// Registers of user space that stacks are unwound with, by their numbers in asm/perf_regs.h, ascending.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: &[u64] = &[6, 7, 8]; // bp, sp, ip
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: &[u64] = &[29, 30, 31, 32]; // fp, lr, sp, pc
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const REGISTERS: &[u64] = &[];

/// What a sample holds besides thread and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Content {
    /// Period, and the chain of callers by frame pointers.
    pub(super) callchain: bool,
    /// Data of the tracepoint.
    pub(super) raw: bool,
    /// So many bytes of the user stack, with registers; 0 for none.
    pub(super) stack_bytes: u32,
}

impl Content {
    /// Asks for it.
    pub(super) fn ask(self, builder: &mut Builder<'_>) {
        builder.sample(SampleFlag::TID).sample(SampleFlag::TIME).sample_id_all(true);
        if self.callchain {
            builder.sample(SampleFlag::PERIOD).sample(SampleFlag::CALLCHAIN);
        }
        if self.raw {
            builder.sample(SampleFlag::RAW);
        }
        if self.stack_bytes > 0 && !REGISTERS.is_empty() {
            builder.sample(SampleFlag::REGS_USER).sample(SampleFlag::STACK_USER);
            builder.sample_regs_user(REGISTERS.iter().fold(0, |mask, register| mask | (1 << register)));
            builder.sample_stack_user(self.stack_bytes);
        }
    }
}

/// A record, as far as a profile looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Sample(Sample),
    /// A thread left a CPU (`out`) or came onto one; `preempted`: it could have gone on.
    Switch {
        thread: i32,
        at_ns: u64,
        out: bool,
        preempted: bool,
    },
}

/// A sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) thread: i32,
    pub(super) at_ns: u64,
    /// What it stands for: ns, cycles, or 1.
    pub(super) period: u64,
    /// Addresses, the innermost first, with marks between kernel and user space.
    pub(super) callchain: Vec<u64>,
    pub(super) raw: Vec<u8>,
    /// Values of [`REGISTERS`]; empty if the thread has no user space.
    pub(super) registers: Vec<u64>,
    /// From the stack pointer upwards.
    pub(super) stack: Vec<u8>,
}

/// A ring of one event on one thread or CPU.
pub(super) struct Ring {
    sampler: Sampler,
    content: Content,
    asked: usize,
    capacity: usize,
    /// When it was last emptied it may have been full: the next record is the kernel's word on that.
    was_full: bool,
}

/// What was read from rings besides records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Records that the kernel had no place for.
    pub(super) lost: u64,
    /// Records that ended too early.
    pub(super) damaged: u64,
    /// Records that the kernel had no place for before the ring was last emptied, when that was noticed already.
    pub(super) lost_before: u64,
}

impl Drained {
    /// What is missing from the records that were just read.
    pub(super) fn holes(self) -> u64 {
        self.lost + self.damaged
    }

    /// All that is missing, of a whole phase.
    pub(super) fn missing(self) -> u64 {
        self.holes().max(self.damaged + self.lost_before)
    }
}

impl std::ops::AddAssign for Drained {
    fn add_assign(&mut self, other: Drained) {
        self.lost += other.lost;
        self.damaged += other.damaged;
        self.lost_before += other.lost_before;
    }
}

/// How large a ring is to be: so many bytes, halved so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) halvings: u32,
}

impl Size {
    fn asked(self) -> usize {
        self.bytes.next_power_of_two()
    }

    /// Not below what is of use.
    fn capacity(self) -> usize {
        (self.asked() >> self.halvings).max(SMALLEST_BYTES).min(self.asked())
    }
}

/// Why a ring cannot be had.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: io::Error,
    /// The event could be had, and so much memory for its ring could not.
    pub(super) of_memory: bool,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal { error, of_memory: false }
    }
}

/// Opens all rings of a phase (`open(0)`), or, where this user may lock no memory for them, all of half the size (`open(1)`), and so
/// on: a first ring that took all the memory there is would leave none for other threads.
pub(super) fn fitting<T>(mut open: impl FnMut(u32) -> Result<T, Refusal>) -> io::Result<T> {
    let mut halvings = 0;
    loop {
        match open(halvings) {
            Ok(rings) => return Ok(rings),
            Err(refusal) if refusal.of_memory && halvings < MOST_HALVINGS => halvings += 1,
            Err(Refusal { error, of_memory: true }) => {
                let least = SMALLEST_BYTES >> 10;
                return Err(io::Error::other(format!(
                    "no memory for rings of {least} KiB ({error}), since {MAY_LOCK}"
                )));
            }
            Err(refusal) => return Err(refusal.error),
        }
    }
}

impl Ring {
    /// Opens an event whose builder has everything but its content; it stays disabled. Asks for a smaller ring where the kernel
    /// refuses one of `bytes`: users who are not root may lock little memory.
    pub(super) fn open(builder: &mut Builder<'_>, content: Content, bytes: usize) -> io::Result<Ring> {
        fitting(|halvings| Ring::of_size(builder, content, Size { bytes, halvings }))
    }

    /// The same with a ring of this size, or none.
    pub(super) fn of_size(builder: &mut Builder<'_>, content: Content, size: Size) -> Result<Ring, Refusal> {
        content.ask(builder);
        let capacity = size.capacity();
        let sampler = builder.build()?.sampled(capacity).map_err(|error| Refusal {
            of_memory: matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM | libc::EINVAL)),
            error,
        })?;
        Ok(Ring { sampler, content, asked: size.asked(), capacity, was_full: false })
    }

    /// Bytes that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Why it is smaller than it should be, and the way to a larger one; nothing if it is not.
    pub(super) fn shrunk(&self) -> Option<String> {
        shrunk(self.asked, self.capacity)
    }

    /// The event's file descriptor.
    pub(super) fn descriptor(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsRawFd as _;
        self.sampler.as_raw_fd()
    }

    pub(super) fn enable(&mut self) -> Result<()> {
        self.sampler.enable().context("the kernel does not start a perf event")
    }

    pub(super) fn disable(&mut self) -> Result<()> {
        self.sampler.disable().context("the kernel does not stop a perf event")
    }

    /// Hands over what is in the ring.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Record)) -> Drained {
        let (mut drained, mut bytes) = (Drained::default(), 0);
        let mut late = std::mem::take(&mut self.was_full);
        while let Some(record) = self.sampler.next_record() {
            bytes += HEADER_BYTES + record.len();
            match decode(record.ty(), record.misc(), &record.to_contiguous(), self.content) {
                Ok(Decoded::Record(record)) => each(record),
                Ok(Decoded::Lost(count)) if late => drained.lost_before += count,
                Ok(Decoded::Lost(count)) => drained.lost += count,
                Ok(Decoded::Other) => {}
                Err(TooShort) => drained.damaged += 1,
            }
            // The kernel tells it before the first record that finds a place.
            late = false;
        }
        if ran_over(bytes, self.capacity, self.content) {
            self.was_full = true;
            drained.lost = drained.lost.max(1);
        }
        drained
    }
}

/// Whether a ring may have been too full for another record. The kernel says so itself, but only with the next record that finds a
/// place, which is after the ring was emptied.
fn ran_over(bytes: usize, capacity: usize, content: Content) -> bool {
    bytes + OTHER_BYTES + content.stack_bytes as usize > capacity
}

/// Why rings are not as large as they should be, and the way to that.
const MAY_LOCK: &str = "this user may lock no more memory (`ulimit -l`, kernel.perf_event_mlock_kb, or root)";

/// Why a ring of `capacity` bytes is not one of `asked`.
fn shrunk(asked: usize, capacity: usize) -> Option<String> {
    (capacity < asked).then(|| {
        format!(
            "rings of {} KiB instead of {} KiB, since {MAY_LOCK}: it is looked at in shorter bursts",
            capacity >> 10,
            asked >> 10
        )
    })
}

/// What bytes mean.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Record(Record),
    Lost(u64),
    Other,
}

/// A record ends before what it should hold.
#[derive(Debug, PartialEq, Eq)]
struct TooShort;

/// The body of a record, behind its header.
fn decode(kind: u32, misc: u16, body: &[u8], content: Content) -> Result<Decoded, TooShort> {
    let mut bytes = Bytes(body);
    match kind {
        RECORD_SAMPLE => sample(&mut bytes, content).map(|sample| Decoded::Record(Record::Sample(sample))),
        // An event's number and how many; or how many alone.
        RECORD_LOST => bytes.u64().and_then(|_| bytes.u64()).map(Decoded::Lost),
        RECORD_LOST_SAMPLES => bytes.u64().map(Decoded::Lost),
        RECORD_SWITCH => {
            // Nothing but what every record ends with: thread and time.
            let (_, thread, at_ns) = (bytes.u32()?, bytes.u32()?, bytes.u64()?);
            let (out, preempted) = (misc & MISC_SWITCH_OUT != 0, misc & MISC_SWITCH_OUT_PREEMPT != 0);
            Ok(Decoded::Record(Record::Switch { thread: thread.cast_signed(), at_ns, out, preempted }))
        }
        _ => Ok(Decoded::Other),
    }
}

fn sample(bytes: &mut Bytes<'_>, content: Content) -> Result<Sample, TooShort> {
    let (_, thread, at_ns) = (bytes.u32()?, bytes.u32()?, bytes.u64()?);
    let mut sample = Sample { thread: thread.cast_signed(), at_ns, period: 1, ..Sample::default() };
    if content.callchain {
        sample.period = bytes.u64()?;
        let count = bytes.u64()?;
        if count > MOST_FRAMES {
            return Err(TooShort);
        }
        sample.callchain = (0..count).map(|_| bytes.u64()).collect::<Result<_, _>>()?;
    }
    if content.raw {
        let size = bytes.u32()? as usize;
        sample.raw = bytes.take(size)?.to_vec();
        // What was read is a multiple of eight.
        bytes.take((8 - (4 + size) % 8) % 8)?;
    }
    if content.stack_bytes > 0 && !REGISTERS.is_empty() {
        if bytes.u64()? != 0 {
            sample.registers = REGISTERS.iter().map(|_| bytes.u64()).collect::<Result<_, _>>()?;
        }
        let size = usize::try_from(bytes.u64()?).map_err(|_| TooShort)?;
        if size > 0 {
            let stack = bytes.take(size)?;
            let valid = usize::try_from(bytes.u64()?).map_err(|_| TooShort)?;
            sample.stack = stack.get(..valid).ok_or(TooShort)?.to_vec();
        }
    }
    Ok(sample)
}

/// What is left of a record.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TooShort> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, TooShort> {
        Ok(u32::from_ne_bytes(self.take(4)?.try_into().map_err(|_| TooShort)?))
    }

    fn u64(&mut self) -> Result<u64, TooShort> {
        Ok(u64::from_ne_bytes(self.take(8)?.try_into().map_err(|_| TooShort)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn thread(pid: u32, thread: u32) -> u64 {
        u64::from(pid) | (u64::from(thread) << 32)
    }

    /// A sample with everything: chain, raw data, registers, stack.
    fn whole() -> (Vec<u8>, Content) {
        let mut body = words(&[thread(7, 8), 1000, 250, 2, 0xffff_ffff_ffff_fe00, 0x40_0000]);
        body.extend(12_u32.to_ne_bytes());
        body.extend([1; 12]);
        body.extend(words(&[2]));
        body.extend(REGISTERS.iter().flat_map(|_| 5_u64.to_ne_bytes()));
        body.extend(words(&[16, 3, 4, 8]));
        (body, Content { callchain: true, raw: true, stack_bytes: 16 })
    }

    #[test]
    fn a_sample_is_read_field_by_field() {
        let (body, content) = whole();
        let Ok(Decoded::Record(Record::Sample(sample))) = decode(RECORD_SAMPLE, 0, &body, content) else { panic!() };
        assert_eq!((sample.thread, sample.at_ns, sample.period), (8, 1000, 250));
        assert_eq!(sample.callchain, [0xffff_ffff_ffff_fe00, 0x40_0000]);
        assert_eq!((sample.raw.len(), sample.registers.len()), (12, REGISTERS.len()));
        assert_eq!(sample.stack, 3_u64.to_ne_bytes(), "only as much as the kernel could copy");
    }

    #[test]
    fn a_record_that_is_cut_short_anywhere_is_refused_not_misread() {
        let (body, content) = whole();
        for end in 0..body.len() {
            assert_eq!(decode(RECORD_SAMPLE, 0, &body[..end], content), Err(TooShort), "{end} of {}", body.len());
        }
        let mut endless = words(&[thread(7, 8), 1000, 250, u64::MAX]);
        assert_eq!(decode(RECORD_SAMPLE, 0, &endless, content), Err(TooShort));
        endless.clear();
        assert_eq!(decode(RECORD_SWITCH, 0, &endless, content), Err(TooShort));
    }

    #[test]
    fn a_ring_without_a_place_for_another_record_may_have_lost_some() {
        let content = Content { stack_bytes: 512, ..Content::default() };
        assert!(ran_over(1 << 20, 1 << 20, content) && ran_over((1 << 20) - 2000, 1 << 20, content));
        assert!(!ran_over((1 << 20) - 4096, 1 << 20, content));
    }

    #[test]
    fn a_ring_that_the_kernel_made_smaller_is_named_with_the_way_to_a_larger_one() {
        assert_eq!(shrunk(8 << 20, 8 << 20), None);
        let why = shrunk(8 << 20, 512 << 10).unwrap();
        assert!(why.contains("512 KiB instead of 8192 KiB") && why.contains("ulimit -l"), "{why}");
    }

    #[test]
    fn all_rings_of_a_phase_share_the_memory_that_there_is() {
        // A user who may lock 516 KiB, as by default, and four threads.
        let (bytes, may_lock) = (8 << 20, 516 << 10);
        let open = |threads: usize, may_lock: usize| {
            move |halvings| {
                let each = Size { bytes, halvings }.capacity();
                let of_memory = |_| Refusal { error: io::Error::from_raw_os_error(libc::EPERM), of_memory: true };
                (threads * each <= may_lock).then_some(vec![each; threads]).ok_or(()).map_err(of_memory)
            }
        };
        assert_eq!(fitting(open(1, may_lock)).unwrap(), [512 << 10]);
        assert_eq!(fitting(open(4, may_lock)).unwrap(), [128 << 10; 4]);
        let refused = fitting(open(64, may_lock)).unwrap_err().to_string();
        assert!(refused.contains("rings of 32 KiB") && refused.contains("ulimit -l"), "{refused}");
        // What is no question of memory is not asked again.
        let mut asked = 0;
        let denied = fitting(|_| -> Result<(), Refusal> {
            asked += 1;
            Err(io::Error::from_raw_os_error(libc::EACCES).into())
        });
        assert_eq!((denied.unwrap_err().raw_os_error(), asked), (Some(libc::EACCES), 1));
        assert_eq!(Size { bytes: 1 << 14, halvings: 3 }.capacity(), 1 << 14, "small as it is");
    }

    #[test]
    fn what_is_missing_is_counted_once() {
        let mut all = Drained { lost: 1, ..Drained::default() };
        all += Drained { lost_before: 900, damaged: 2, ..Drained::default() };
        assert_eq!((all.holes(), all.missing()), (3, 902), "the first loss is one of those told later");
    }

    #[test]
    fn switches_and_losses_are_told() {
        let body = words(&[thread(7, 8), 5]);
        let switch = |misc| decode(RECORD_SWITCH, misc, &body, Content::default()).unwrap();
        let record = |out, preempted| Decoded::Record(Record::Switch { thread: 8, at_ns: 5, out, preempted });
        assert_eq!(switch(0), record(false, false));
        assert_eq!(switch(MISC_SWITCH_OUT), record(true, false));
        assert_eq!(switch(MISC_SWITCH_OUT | MISC_SWITCH_OUT_PREEMPT), record(true, true));
        assert_eq!(decode(RECORD_LOST, 0, &words(&[1, 42]), Content::default()), Ok(Decoded::Lost(42)));
        assert_eq!(decode(RECORD_LOST_SAMPLES, 0, &words(&[3]), Content::default()), Ok(Decoded::Lost(3)));
        assert_eq!(decode(1, 0, &[], Content::default()), Ok(Decoded::Other));
    }
}
