//! Untrusted bytes are parsed and decoded in a process of their own: this same executable, started
//! again with limits on memory and time. A decoder that runs wild costs one file, never the service.
//!
//! One order, one reply, over the child's standard input and output; both begin with the length of a
//! JSON message, pixels follow the reply's. The child inherits no environment and its error
//! output goes nowhere.

use crate::header::Header;
use crate::job::{self, Source};
use crate::{DicomError, Limits};
use lungai_trace::implements;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FLAG: &str = "LUNGAI_DECODE_WORKER";
static READY: AtomicBool = AtomicBool::new(false);

/// Turns this process into a decoding process if it was started as one, and never returns then.
/// First line of every `main` that reads DICOM; test binaries use [`worker_in_tests`](crate::worker_in_tests).
pub fn init() {
    if std::env::var_os(FLAG).is_some() {
        std::process::exit(serve());
    }
    READY.store(true, Ordering::Relaxed);
}

/// Calls [`init`] before a test harness's `main`, which cannot be written by hand. Once per test
/// binary, at module level.
#[macro_export]
macro_rules! worker_in_tests {
    () => {
        const _: () = {
            extern "C" fn start() {
                $crate::worker::init();
            }
            // The number sorts it behind the constructors of C++ libraries (65536 where none is given): CharLS
            // builds its tables in one. LLD, the toolchain's linker, sorts so; GNU ld puts numbers first.
            // SAFETY: the linker section holds `extern "C"` functions without arguments that the loader calls
            // once, before `main`, on the main thread; `init` needs nothing of what `main` would set up.
            #[used]
            #[unsafe(link_section = ".init_array.70000")]
            static START: extern "C" fn() = start;
        };
    };
}

/// What the child is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Want {
    /// A file's header, or an archive's table of contents.
    Header,
    /// Header, then all frames in HU as `i16` little endian.
    Hu,
    /// Header, then all frames' stored values as `i32` little endian.
    Stored,
}

#[derive(Serialize, Deserialize)]
struct Order {
    source: Source,
    want: Want,
    limits: Limits,
}

/// What the child answers.
#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The input is an archive of these entries.
    Archive(Vec<job::Entry>),
    /// A DICOM file; so many bytes of pixels follow.
    File { header: Box<Header>, pixel_bytes: u64 },
}

/// Longest JSON message: an archive's table of 20,000 names, or the planes of a long multi-frame file.
const MESSAGE_BYTES: u32 = 64 << 20;

// The child.

fn serve() -> i32 {
    let cap = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if setrlimit(Resource::Core, cap(0)).is_err() {
        return 1;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut open = job::Opened::default();
    loop {
        let Some(order) = read_message(&mut input).and_then(|text| serde_json::from_slice::<Order>(&text).ok()) else {
            return 0; // the parent is gone
        };
        if bound(&order).is_err() {
            return 1;
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            open.run(&order.source, order.want, &order.limits)
        }));
        let (reply, pixels) = match done {
            Ok(Ok((reply, pixels))) => (Ok(reply), pixels),
            Ok(Err(error)) => (Err(error), Vec::new()),
            Err(_) => return 101, // what a panicking decoder left behind is not used again
        };
        let Ok(text) = serde_json::to_vec(&reply) else { return 1 };
        let length = (text.len() as u32).to_le_bytes();
        let sent =
            output.write_all(&length).and_then(|()| output.write_all(&text)).and_then(|()| output.write_all(&pixels));
        if sent.and_then(|()| output.flush()).is_err() {
            return 0;
        }
    }
}

/// Renews the limits for one file. CPU time counts for the whole process, so it is moved on.
fn bound(order: &Order) -> rustix::io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec as u64;
    soft(Resource::Cpu, used + order.limits.file_seconds + 1)?;
    let size = std::fs::metadata(&order.source.path).map_or(0, |meta| meta.len()).min(order.limits.file_bytes);
    // Deflated data sets may grow to ten times their size (`structure::inflate`) before anything else is known.
    allow_memory(BASE_BYTES.saturating_add(32 * size), &order.limits)
}

/// What a child needs before it has read anything, with room for a decoder's tables.
const BASE_BYTES: u64 = 256 << 20;

/// Lets this process grow to `bytes`, at most to [`Limits::worker_bytes`].
fn allow_memory(bytes: u64, limits: &Limits) -> rustix::io::Result<()> {
    soft(Resource::Data, bytes.min(limits.worker_bytes))
}

/// Memory for a file whose unpacked size and pixel count are known by now: the file, its parsed copy,
/// samples, and a decoder's planes of 32 bits.
pub(crate) fn allow_file(file_bytes: u64, pixels: u64, limits: &Limits) -> Result<(), DicomError> {
    let bytes = BASE_BYTES.saturating_add(4 * file_bytes).saturating_add(pixels.saturating_mul(16));
    allow_memory(bytes, limits).map_err(|_| DicomError::WorkerReply)
}

fn soft(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = maximum.map_or(value, |maximum| value.min(maximum));
    setrlimit(resource, Rlimit { current: Some(current), maximum })
}

fn read_message(input: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length).ok()?;
    let mut text = vec![0; u32::from_le_bytes(length).min(MESSAGE_BYTES) as usize];
    input.read_exact(&mut text).ok()?;
    Some(text)
}

// The parent.

/// One decoding process.
struct Worker {
    child: Child,
    orders: ChildStdin,
    replies: ChildStdout,
}

impl Worker {
    fn start() -> Result<Self, DicomError> {
        if !READY.load(Ordering::Relaxed) {
            return Err(DicomError::WorkerNotInitialised);
        }
        let mut command = Command::new("/proc/self/exe");
        command.env_clear().env(FLAG, "1").env("MALLOC_ARENA_MAX", "1");
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries); // else a dynamically linked program may not start
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|error| DicomError::WorkerStart { kind: error.kind().to_string() })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(replies)) => Ok(Self { child, orders, replies }),
            _ => Err(DicomError::WorkerStart { kind: "no pipe".to_owned() }),
        }
    }

    /// Sends one order and waits for the head of its reply; [`Pixels`] then reads what follows.
    fn ask(&mut self, source: &Source, want: Want, limits: &Limits) -> Result<(Reply, Pixels<'_>), Failure> {
        let order = Order { source: source.clone(), want, limits: *limits };
        let text = serde_json::to_vec(&order).map_err(|_| Failure::Fatal(DicomError::WorkerReply))?;
        let died = DicomError::WorkerDied { limit_mib: limits.worker_bytes >> 20 };
        let mut message = (text.len() as u32).to_le_bytes().to_vec();
        message.extend(text);
        self.orders.write_all(&message).map_err(|_| Failure::Fatal(died))?;
        let limit_s = limits.file_seconds;
        let deadline = Instant::now() + Duration::from_secs(limit_s);
        let mut pixels = Pixels { replies: &mut self.replies, deadline, left: 4, limits: *limits };
        let mut length = [0; 4];
        pixels.fill(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MESSAGE_BYTES {
            return Err(Failure::Fatal(DicomError::WorkerReply));
        }
        pixels.left = length.into();
        let mut text = vec![0; length as usize];
        pixels.fill(&mut text)?;
        let reply: Result<Reply, DicomError> =
            serde_json::from_slice(&text).map_err(|_| Failure::Fatal(DicomError::WorkerReply))?;
        let reply = reply.map_err(Failure::Refused)?;
        pixels.left = if let Reply::File { pixel_bytes, .. } = &reply { *pixel_bytes } else { 0 };
        Ok((reply, pixels))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It holds no state worth a farewell; a child in an endless loop would not hear one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Failure {
    /// The child judged the file; it goes on.
    Refused(DicomError),
    /// The child is of no use any more.
    Fatal(DicomError),
}

/// The bytes after a reply.
pub(crate) struct Pixels<'a> {
    replies: &'a mut ChildStdout,
    deadline: Instant,
    left: u64,
    limits: Limits,
}

impl Pixels<'_> {
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Failure> {
        if buffer.len() as u64 > self.left {
            return Err(Failure::Fatal(DicomError::WorkerReply));
        }
        self.left -= buffer.len() as u64;
        while !buffer.is_empty() {
            let patience = self.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
            match poll(&mut [PollFd::new(&*self.replies, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(Failure::Fatal(DicomError::TooSlow { limit_s: self.limits.file_seconds })),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return Err(Failure::Fatal(DicomError::WorkerReply)),
                Ok(_) => {}
            }
            match self.replies.read(buffer) {
                Ok(0) | Err(_) => {
                    let limit_mib = self.limits.worker_bytes >> 20;
                    return Err(Failure::Fatal(DicomError::WorkerDied { limit_mib }));
                }
                Ok(n) => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    /// Reads exactly `values.len()` values of HU.
    pub fn hu(&mut self, values: &mut [i16]) -> Result<(), PixelsError> {
        self.values(values, |b: [u8; 2]| i16::from_le_bytes(b))
    }

    /// Reads exactly `values.len()` stored values.
    pub fn stored(&mut self, values: &mut [i32]) -> Result<(), PixelsError> {
        self.values(values, i32::from_le_bytes)
    }

    /// Bytes not yet read.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn values<const N: usize, T>(&mut self, values: &mut [T], value: fn([u8; N]) -> T) -> Result<(), PixelsError> {
        let mut buffer = vec![0; (values.len() * N).min(256 << 10)];
        for chunk in values.chunks_mut(buffer.len().max(N) / N) {
            let bytes = &mut buffer[..chunk.len() * N];
            self.fill(bytes).map_err(PixelsError)?;
            for (slot, bytes) in chunk.iter_mut().zip(bytes.as_chunks::<N>().0) {
                *slot = value(*bytes);
            }
        }
        Ok(())
    }
}

/// Reading pixels failed; the child is replaced.
pub(crate) struct PixelsError(Failure);

impl From<PixelsError> for Ended {
    fn from(PixelsError(Failure::Refused(error) | Failure::Fatal(error)): PixelsError) -> Self {
        Self(error)
    }
}

/// What ends one job: the child that served it is replaced.
pub(crate) struct Ended(pub DicomError);

/// Does all jobs on as many children as the limits allow; results are in the order of the jobs.
/// `take` gets each reply and its pixels.
#[implements("FR-001")]
pub(crate) fn run_all<J: Send, T: Send>(
    jobs: Vec<J>,
    want: Want,
    limits: &Limits,
    source: impl Fn(&J) -> Source + Sync,
    take: impl Fn(J, Reply, &mut Pixels) -> Result<T, Ended> + Sync,
) -> Vec<Result<T, DicomError>> {
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<Result<T, DicomError>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let serve_jobs = || {
        let mut worker = None;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = jobs.get(index) else { return };
            let Some(job) = lock(slot).take() else { continue };
            let outcome = one(&mut worker, job, want, limits, &source, &take);
            *lock(&results[index]) = Some(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..limits.workers.clamp(1, jobs.len().max(1)) {
            scope.spawn(serve_jobs);
        }
    });
    let done = results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
    done.map(|result| result.unwrap_or(Err(DicomError::WorkerReply))).collect()
}

fn one<J, T>(
    worker: &mut Option<Worker>,
    job: J,
    want: Want,
    limits: &Limits,
    source: impl Fn(&J) -> Source,
    take: impl Fn(J, Reply, &mut Pixels) -> Result<T, Ended>,
) -> Result<T, DicomError> {
    let child = match worker {
        Some(child) => child,
        None => worker.insert(Worker::start()?),
    };
    let error = match child.ask(&source(&job), want, limits) {
        Err(Failure::Refused(error)) => return Err(error),
        Err(Failure::Fatal(error)) => error,
        Ok((reply, mut pixels)) => match take(job, reply, &mut pixels) {
            // Left-over pixels would be taken for the next reply.
            Ok(value) if pixels.left() == 0 => return Ok(value),
            Ok(_) => DicomError::WorkerReply,
            Err(Ended(error)) => error,
        },
    };
    *worker = None;
    Err(error)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
