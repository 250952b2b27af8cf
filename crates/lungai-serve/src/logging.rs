//! JSON lines. Only this crate's own are written: what a library logs about a header, a path or a DICOM element can
//! hold a patient's name.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for the process. Messages of panics are cut to their place, because what was being processed can be
/// part of them.
pub fn start(writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) {
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(EnvFilter::new("off,lungai_serve=info"))
        .with_writer(writer)
        .finish()
        .try_init(); // where a test has started it before
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "unknown".to_owned(), |l| format!("{}:{}", l.file(), l.line()));
        tracing::error!(place, "a bug of the service: panic");
    }));
}
