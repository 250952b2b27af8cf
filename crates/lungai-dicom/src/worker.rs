//! Untrusted bytes are parsed and decoded in a process of their own: this same executable, started
//! again with limits on memory and time. A decoder that runs wild costs one file, never the service.
//!
//! One order, one reply, over the child's standard input and output; both begin with the length of a
//! JSON message. Frames follow the reply one by one, each behind a byte that says whether it is a frame or the
//! JSON message of an error that ends them: the child never holds more than one. The child inherits no
//! environment and its error output goes nowhere.

use crate::header::Header;
use crate::job::{self, Source};
use crate::{DicomError, Limits};
use bytemuck::{NoUninit, Pod};
use lungai_trace::implements;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
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
    /// Header, then all frames in HU as `i16`.
    Hu,
    /// Header, then all frames' stored values as `i32`.
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
    /// A DICOM file; frames of so many bytes follow if they were asked for.
    File { header: Box<Header>, frame_bytes: u64 },
}

/// What the child sends, in this order.
pub(crate) enum Part<'a> {
    Head(Reply),
    Hu(&'a [i16]),
    Stored(&'a [i32]),
}

/// First byte of what follows a reply's head.
const FRAME: u8 = 1;
const FAILED: u8 = 0;
/// Exit code of a child in whose own code an `assert!` failed.
const FAULT: i32 = 101;

/// Longest JSON message: an archive's table of 20,000 names, or the planes of a long multi-frame file.
const MESSAGE_BYTES: u32 = 64 << 20;

/// What a file's limits on time and memory are reckoned from.
fn input_bytes(source: &Source, limits: &Limits) -> u64 {
    std::fs::metadata(&source.path).map_or(0, |meta| meta.len()).min(limits.file_bytes)
}

// The child.

fn serve() -> i32 {
    let cap = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if setrlimit(Resource::Core, cap(0)).is_err() {
        return 1;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut output = BufWriter::with_capacity(64 << 10, output);
    let mut open = job::Opened::default();
    let mut allowance = Allowance { held: held_bytes() };
    loop {
        let Some(order) = read_message(&mut input).and_then(|text| serde_json::from_slice::<Order>(&text).ok()) else {
            return 0; // the parent is gone
        };
        if allowance.set(input_bytes(&order.source, &order.limits), &order.limits).is_err() {
            return 1;
        }
        let mut headed = false;
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
            open.run(&order.source, order.want, &order.limits, &mut allowance, |part| {
                headed = true;
                if send(&mut output, part).is_err() {
                    std::process::exit(0); // the parent is gone
                }
            })
        }));
        let sent = match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if headed => output.write_all(&[FAILED]).and_then(|()| send_message(&mut output, &error)),
            Ok(Err(error)) => send_message(&mut output, &Err::<Reply, _>(error)),
            Err(_) => return FAULT,
        };
        if sent.and_then(|()| output.flush()).is_err() {
            return 0;
        }
    }
}

fn send(output: &mut impl Write, part: Part) -> std::io::Result<()> {
    match part {
        Part::Head(reply) => send_message(output, &Ok::<_, DicomError>(reply)),
        Part::Hu(values) => send_values(output, values),
        Part::Stored(values) => send_values(output, values),
    }
}

fn send_message(output: &mut impl Write, message: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(message)?;
    output.write_all(&(text.len() as u32).to_le_bytes())?;
    output.write_all(&text)
}

/// In the machine's byte order: both processes run the same program on it.
fn send_values(output: &mut impl Write, values: &[impl NoUninit]) -> std::io::Result<()> {
    output.write_all(&[FRAME])?;
    output.write_all(bytemuck::cast_slice(values))
}

/// Calls a parser or decoder of others, which may panic on damaged input.
pub(crate) fn contained<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok().flatten()
}

/// What this process holds when it has no file at hand; what a file may take comes on top.
pub(crate) struct Allowance {
    held: u64,
}

impl Allowance {
    /// Renews the limits for a file of `input` bytes. CPU time counts for the whole process, so it is moved on.
    pub fn set(&self, input: u64, limits: &Limits) -> Result<(), DicomError> {
        let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec as u64;
        let time = soft(Resource::Cpu, used.saturating_add(limits.seconds(input)).saturating_add(1));
        let memory = soft(Resource::Data, self.held.saturating_add(limits.memory(input)));
        time.and(memory).map_err(|_| DicomError::WorkerStart { kind: "its limits cannot be set".to_owned() })
    }

    /// An archive's table stays for the archive's other files.
    pub fn keep_what_is_held(&mut self) {
        self.held = self.held.max(held_bytes());
    }
}

/// Bytes that count against the limit on memory: private and writable (proc(5), `VmData`).
fn held_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(64 << 20, |kib| kib << 10)
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
        // What a decoder frees goes back, but for some MiB that the next slice needs again: the next file has the same
        // allowance.
        command.env("MALLOC_MMAP_THRESHOLD_", "1048576").env("MALLOC_TRIM_THRESHOLD_", "8388608");
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries); // else a dynamically linked program may not start
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|error| DicomError::WorkerStart { kind: error.kind().to_string() })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(replies)) => {
                // A whole slice fits: the child goes on while the parent copies. A smaller pipe is only slower.
                let _ = rustix::pipe::fcntl_setpipe_size(&replies, 1 << 20);
                Ok(Self { child, orders, replies })
            }
            _ => Err(DicomError::WorkerStart { kind: "no pipe".to_owned() }),
        }
    }

    /// Sends one order and waits for the head of its reply; [`Pixels`] then reads what follows.
    fn ask(&mut self, source: &Source, want: Want, limits: &Limits) -> Result<(Reply, Pixels<'_>), Failure> {
        let order = Order { source: source.clone(), want, limits: *limits };
        let text = serde_json::to_vec(&order).map_err(|_| Failure::Fatal(DicomError::WorkerReply))?;
        let mut message = (text.len() as u32).to_le_bytes().to_vec();
        message.extend(text);
        self.orders.write_all(&message).map_err(|_| Failure::Ended)?;
        // Other work may share the processor: five times as much by the wall's clock.
        let patience_s = 5 * limits.seconds(input_bytes(source, limits));
        let deadline = Instant::now() + Duration::from_secs(patience_s);
        let mut pixels = Pixels { replies: &mut self.replies, deadline, patience_s, frames: 0, frame_bytes: 0 };
        let reply: Result<Reply, DicomError> = pixels.message()?;
        let reply = reply.map_err(Failure::Refused)?;
        if let Reply::File { header, frame_bytes } = &reply {
            pixels.frames = if want == Want::Header { 0 } else { header.layout.frames };
            pixels.frame_bytes = *frame_bytes;
        }
        Ok((reply, pixels))
    }

    /// Why a child went that should not have. An entry's limits lie below its archive's and above those of an empty file,
    /// so that "more than" and "at most" hold for it too.
    fn post_mortem(mut self, source: &Source, limits: &Limits) -> DicomError {
        let input = input_bytes(source, limits);
        let least = if source.entry.is_some() { 0 } else { input };
        let _ = self.child.kill(); // it may still be on its way out
        let status = self.child.wait();
        let signal = status.as_ref().ok().and_then(|status| status.signal());
        match (signal, status.ok().and_then(|status| status.code())) {
            (Some(signal), _) if signal == rustix::process::Signal::XCPU.as_raw() => {
                DicomError::TooSlow { limit_s: limits.seconds(least) }
            }
            (_, Some(FAULT)) => DicomError::Fault,
            (signal, code) => {
                let how = match (signal, code) {
                    (Some(signal), _) => format!("signal {signal}"),
                    (_, Some(code)) => format!("exit code {code}"),
                    _ => "unknown".to_owned(),
                };
                DicomError::WorkerDied { how, limit_mib: limits.memory(input) >> 20 }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It holds no state worth a farewell; a child in an endless loop would not hear one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why an order was not done.
pub(crate) enum Failure {
    /// The child judged the file; it goes on.
    Refused(DicomError),
    /// The child is of no use any more.
    Fatal(DicomError),
    /// The child is gone.
    Ended,
}

/// The frames after a reply.
pub(crate) struct Pixels<'a> {
    replies: &'a mut ChildStdout,
    deadline: Instant,
    patience_s: u64,
    frames: u32,
    frame_bytes: u64,
}

impl Pixels<'_> {
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Failure> {
        while !buffer.is_empty() {
            let patience = self.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
            match poll(&mut [PollFd::new(&*self.replies, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(Failure::Fatal(DicomError::NoAnswer { waited_s: self.patience_s })),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return Err(Failure::Fatal(DicomError::WorkerReply)),
                Ok(_) => {}
            }
            match self.replies.read(buffer) {
                Ok(0) | Err(_) => return Err(Failure::Ended),
                Ok(n) => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    fn message<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MESSAGE_BYTES {
            return Err(Failure::Fatal(DicomError::WorkerReply));
        }
        let mut text = vec![0; length as usize];
        self.fill(&mut text)?;
        serde_json::from_slice(&text).map_err(|_| Failure::Fatal(DicomError::WorkerReply))
    }

    /// Reads the next frame of HU.
    pub fn hu(&mut self, values: &mut [i16]) -> Result<(), Failure> {
        self.frame(values)
    }

    /// Reads the next frame of stored values.
    pub fn stored(&mut self, values: &mut [i32]) -> Result<(), Failure> {
        self.frame(values)
    }

    /// Frames not yet read.
    pub fn left(&self) -> u32 {
        self.frames
    }

    fn frame(&mut self, values: &mut [impl Pod]) -> Result<(), Failure> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        if self.frames == 0 || self.frame_bytes != bytes.len() as u64 {
            return Err(Failure::Fatal(DicomError::WorkerReply));
        }
        let mut kind = [0];
        self.fill(&mut kind)?;
        if kind[0] == FAILED {
            self.frames = 0;
            return Err(Failure::Refused(self.message()?));
        }
        self.fill(bytes)?;
        self.frames -= 1;
        Ok(())
    }
}

/// Does all jobs on as many children as the limits allow; results are in the order of the jobs.
/// `take` gets each reply and its pixels.
#[implements("FR-001", "SW-101")]
pub(crate) fn run_all<J: Send, T: Send>(
    jobs: Vec<J>,
    want: Want,
    limits: &Limits,
    source: impl Fn(&J) -> Source + Sync,
    take: impl Fn(J, Reply, &mut Pixels) -> Result<T, Failure> + Sync,
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
        for _ in 0..limits.workers.max(1).min(jobs.len()) {
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
    take: impl Fn(J, Reply, &mut Pixels) -> Result<T, Failure>,
) -> Result<T, DicomError> {
    let child = match worker {
        Some(child) => child,
        None => worker.insert(Worker::start()?),
    };
    let source = source(&job);
    let done = child.ask(&source, want, limits).and_then(|(reply, mut pixels)| {
        let value = take(job, reply, &mut pixels)?;
        // Left-over frames would be taken for the next reply.
        if pixels.left() == 0 { Ok(value) } else { Err(Failure::Fatal(DicomError::WorkerReply)) }
    });
    match done {
        Ok(value) => Ok(value),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Fatal(error)) => {
            *worker = None;
            Err(error)
        }
        Err(Failure::Ended) => {
            Err(worker.take().map_or(DicomError::WorkerReply, |gone| gone.post_mortem(&source, limits)))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
