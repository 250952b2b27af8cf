//! What all requests and workers share.

use crate::analyse::Engine;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// The running service; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// Behind every [`App`].
pub struct Shared {
    /// What the operator decided.
    pub config: Config,
    /// Studies and jobs.
    pub store: Store,
    /// What Prometheus reads.
    pub metrics: Metrics,
    pub(crate) engine: OnceLock<Engine>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) new_job: Notify,
    pub(crate) phase: watch::Sender<Phase>,
    /// Held while the process lives; the system lets go of it however the process ends.
    _lock: File,
}

/// Where the service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// No analysis is begun any more.
    Draining,
    /// Running analyses are given back to the queue.
    Leaving,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder cannot be used.
    #[error("data folder {path}: {source}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another server works in the data folder.
    #[error("data folder {path}: another lungai-serve is using it")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Opens the data folder and queues again what an earlier process did not finish. The service accepts studies from
    /// [`App::ready`] on.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn open(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let metrics = Metrics::new()?;
        let path = config.data.clone();
        let lock = prepare(&path).map_err(|source| StartError::Data { path: path.clone(), source })?;
        let Some(lock) = lock else { return Err(StartError::InUse { path }) };
        let store = Store::open(&path.join("serve.sqlite")).await?;
        let requeued = store.requeue_orphans().await?;
        if requeued > 0 {
            tracing::info!(requeued, "analyses of an earlier process are queued again");
        }
        let uploads = Arc::new(Semaphore::new(config.limits.uploads));
        let app = Self(Arc::new(Shared {
            config,
            store,
            metrics,
            engine: OnceLock::new(),
            uploads,
            new_job: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
            _lock: lock,
        }));
        app.remove_strays().await?;
        Ok(app)
    }

    /// The model is verified: studies are accepted and analysed from now on. A second call has no effect.
    pub fn ready(&self, engine: Engine) {
        self.metrics.model_load.set(engine.load_seconds);
        let _ = self.engine.set(engine);
        self.new_job.notify_waiters();
    }

    pub(crate) fn study_folder(&self, id: &str) -> PathBuf {
        self.config.data.join("studies").join(id)
    }

    /// Removes images whose keeping time is over.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn expire_images(&self) -> Result<(), StoreError> {
        let keep = Duration::from_secs(3600 * u64::from(self.config.keep_images_hours));
        for study in self.store.expire_images(keep).await? {
            self.store.audit("system", "remove-images", &study).await?;
            remove(self.study_folder(&study)).await;
        }
        Ok(())
    }

    /// Folders of uploads that nobody accepted, and of images that were to be removed when the process ended.
    async fn remove_strays(&self) -> Result<(), StartError> {
        let studies = self.config.data.join("studies");
        let unreadable = |source| StartError::Data { path: studies.clone(), source };
        for entry in std::fs::read_dir(&studies).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let known = match entry.file_name().to_str() {
                Some(id) => self.store.has_images(id).await?,
                None => false,
            };
            if !known {
                remove(entry.path()).await;
            }
        }
        Ok(())
    }
}

/// Creates the folders, for the service's user alone, and takes the lock; `None` where another process has it.
fn prepare(data: &Path) -> std::io::Result<Option<File>> {
    use std::os::unix::fs::PermissionsExt;
    let studies = data.join("studies");
    std::fs::create_dir_all(&studies)?;
    std::fs::set_permissions(&studies, std::fs::Permissions::from_mode(0o700))?;
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
    let lock = File::create(data.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

async fn remove(folder: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
    if !matches!(removed, Ok(Ok(()))) {
        tracing::warn!("images of a study could not be removed; the next start tries again");
    }
}
