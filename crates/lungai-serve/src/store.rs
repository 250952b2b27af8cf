//! Studies, jobs and the audit trail in one database: what was accepted is accepted as a whole, or not at all.
//!
//! The queue is the job table. A worker *leases* the oldest waiting job; while it works it renews the lease, and a
//! lease that ran out (the process died) makes the job available again. Results are written only by the lease's holder.
//! SQL stays in this file, so that a second dialect has one place to go.

use crate::analyse::Failure;
use lungai_trace::implements;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "studies and jobs", include_str!("../migrations/sqlite/0001_studies_and_jobs.sql"))];

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// A study that has arrived and is on disk.
#[derive(Debug, Clone)]
pub struct NewStudy {
    /// Random id; names its folder.
    pub id: String,
    /// Files on disk.
    pub files: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// SHA-256 of what was sent.
    pub sha256: String,
}

/// A request to analyse.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// A study that arrives with this request.
    pub new_study: Option<&'a NewStudy>,
    /// The study and, if chosen, the series of every job.
    pub jobs: &'a [(String, Option<String>)],
    /// Who asks.
    pub actor: &'a str,
    /// Hash of the client's Idempotency-Key, and of the request.
    pub idempotency: Option<(&'a str, &'a str)>,
    /// Jobs that may wait.
    pub queue_limit: u32,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// Accepted: ids of its jobs.
    New(Vec<String>),
    /// The same order was accepted before: ids of that one's jobs.
    Before(Vec<String>),
    /// The key was used for another request.
    KeyReused,
    /// Too many jobs wait.
    QueueFull,
}

/// A leased job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Random id.
    pub id: String,
    /// Its study.
    pub study: String,
    /// The chosen series.
    pub series_uid: Option<String>,
    /// How often it was begun, this time included; also says which lease this is.
    pub attempts: u32,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// Result as JSON.
    Succeeded(String),
    /// Result as JSON, with the reasons of the quality gate.
    Rejected(String),
    /// The images cannot be analysed.
    Failed(Failure),
}

/// What a client may know of a job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// `queued`, `running`, `succeeded`, `failed` or `rejected`.
    pub state: String,
    /// JSON.
    pub result: Option<String>,
    /// JSON of a [`Failure`].
    pub error: Option<String>,
}

/// How much is waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Depth {
    /// Jobs that wait.
    pub queued: u32,
    /// Seconds that the oldest of them has waited.
    pub oldest_seconds: f64,
}

impl Store {
    /// Opens or creates the database file and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] where the file is not a database of ours or the disk refuses.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Not NORMAL: an accepted study must survive a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
            let sql = AssertSqlSafe(*sql).into_sql_str();
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(migrations.collect()).run(&pool).await?;
        Ok(Self { pool })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] where it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Accepts an order: study, jobs, key and audit rows in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was accepted then.
    #[implements("PR-002", "PR-003")]
    pub async fn place(&self, order: Order<'_>) -> Result<Placed, StoreError> {
        let now = now_ms();
        // Immediate: two requests must not both find the last free place, nor both find the key unused.
        let mut tx = self.pool.begin_with("begin immediate").await?;
        if let Some((key, request)) = order.idempotency {
            let before = sqlx::query("select request_sha256, jobs from idempotency where owner = ? and key_sha256 = ?")
                .bind(order.actor)
                .bind(key)
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(before) = before {
                let same = before.get::<String, _>(0) == request;
                let jobs = before.get::<String, _>(1).split(' ').map(str::to_owned).collect();
                return Ok(if same { Placed::Before(jobs) } else { Placed::KeyReused });
            }
        }
        let queued: u32 =
            sqlx::query("select count(*) from job where state = 'queued'").fetch_one(&mut *tx).await?.get(0);
        if queued as usize + order.jobs.len() > order.queue_limit as usize {
            return Ok(Placed::QueueFull);
        }
        if let Some(study) = order.new_study {
            sqlx::query("insert into study (id, received_ms, files, bytes, sha256) values (?, ?, ?, ?, ?)")
                .bind(&study.id)
                .bind(now)
                .bind(study.files as i64)
                .bind(study.bytes as i64)
                .bind(&study.sha256)
                .execute(&mut *tx)
                .await?;
            audit(&mut tx, order.actor, "receive-study", &study.id).await?;
        }
        let mut ids = Vec::new();
        for (study, series_uid) in order.jobs {
            let id = random_id();
            sqlx::query("insert into job (id, study, series_uid, state, created_ms) values (?, ?, ?, 'queued', ?)")
                .bind(&id)
                .bind(study)
                .bind(series_uid)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            audit(&mut tx, order.actor, "order-analysis", &id).await?;
            ids.push(id);
        }
        if let Some((key, request)) = order.idempotency {
            sqlx::query(
                "insert into idempotency (owner, key_sha256, request_sha256, jobs, created_ms) values (?, ?, ?, ?, ?)",
            )
            .bind(order.actor)
            .bind(key)
            .bind(request)
            .bind(ids.join(" "))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(Placed::New(ids))
    }

    /// Leases the oldest job that waits or whose lease has run out.
    ///
    /// # Errors
    /// [`StoreError`]
    #[implements("PR-002", "SW-801")]
    pub async fn claim(&self, owner: &str, lease: Duration) -> Result<Option<Job>, StoreError> {
        let now = now_ms();
        let row = sqlx::query(
            "update job set state = 'running', attempts = attempts + 1, lease_owner = ?, lease_until_ms = ?
             where seq = (select seq from job where state = 'queued' or (state = 'running' and lease_until_ms < ?)
                          order by seq limit 1)
             returning id, study, series_uid, attempts",
        )
        .bind(owner)
        .bind(now + lease.as_millis() as i64)
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Job { id: row.get(0), study: row.get(1), series_uid: row.get(2), attempts: row.get(3) }))
    }

    /// Renews a lease; `false` where it is no longer held.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn renew(&self, job: &Job, lease: Duration) -> Result<bool, StoreError> {
        let done = sqlx::query("update job set lease_until_ms = ? where id = ? and state = 'running' and attempts = ?")
            .bind(now_ms() + lease.as_millis() as i64)
            .bind(&job.id)
            .bind(job.attempts)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a job and notes which series its study holds; `false` where the lease is no longer held.
    ///
    /// # Errors
    /// [`StoreError`]; the job is as before then.
    pub async fn finish(
        &self,
        job: &Job,
        ending: &Ending,
        study_uid: Option<&str>,
        series_uids: &[String],
    ) -> Result<bool, StoreError> {
        let (state, result, error) = match ending {
            Ending::Succeeded(json) => ("succeeded", Some(json), None),
            Ending::Rejected(json) => ("rejected", Some(json), None),
            Ending::Failed(failure) => {
                ("failed", None, Some(serde_json::to_string(failure).expect("two strings are JSON")))
            }
        };
        let mut tx = self.pool.begin_with("begin immediate").await?;
        let done = sqlx::query(
            "update job set state = ?, result = ?, error = ?, finished_ms = ?, lease_owner = null, lease_until_ms = null
             where id = ? and state = 'running' and attempts = ?",
        )
        .bind(state)
        .bind(result)
        .bind(error)
        .bind(now_ms())
        .bind(&job.id)
        .bind(job.attempts)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(study_uid) = study_uid {
            for series_uid in series_uids {
                sqlx::query("insert or ignore into series (study, study_uid, series_uid) values (?, ?, ?)")
                    .bind(&job.study)
                    .bind(study_uid)
                    .bind(series_uid)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        audit(&mut tx, "system", &format!("analysis-{state}"), &job.id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Gives a leased job back; the attempt does not count.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn give_back(&self, job: &Job) -> Result<(), StoreError> {
        sqlx::query(
            "update job set state = 'queued', attempts = attempts - 1, lease_owner = null, lease_until_ms = null
             where id = ? and state = 'running' and attempts = ?",
        )
        .bind(&job.id)
        .bind(job.attempts)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Queues again what a process that is gone was working on. Only for the sole user of the database.
    ///
    /// # Errors
    /// [`StoreError`]
    #[implements("PR-003", "SW-802")]
    pub async fn requeue_orphans(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "update job set state = 'queued', lease_owner = null, lease_until_ms = null where state = 'running'",
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// A job by its id.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn job(&self, id: &str) -> Result<Option<JobView>, StoreError> {
        let row = sqlx::query("select state, result, error from job where id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| JobView { state: row.get(0), result: row.get(1), error: row.get(2) }))
    }

    /// The latest study of these DICOM UIDs whose images are still here.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn find_study(&self, study_uid: &str, series_uid: Option<&str>) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "select study.id from study join series on series.study = study.id
             where series.study_uid = ?1 and (?2 is null or series.series_uid = ?2) and study.images_gone_ms is null
             order by study.received_ms desc limit 1",
        )
        .bind(study_uid)
        .bind(series_uid)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// How much is waiting.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn depth(&self) -> Result<Depth, StoreError> {
        let row = sqlx::query("select count(*), min(created_ms) from job where state = 'queued'")
            .fetch_one(&self.pool)
            .await?;
        let oldest: Option<i64> = row.get(1);
        let oldest_seconds = oldest.map_or(0.0, |created| (now_ms() - created).max(0) as f64 / 1000.0);
        Ok(Depth { queued: row.get(0), oldest_seconds })
    }

    /// Marks the images of studies as gone whose last analysis ended longer ago than `keep`, and names those studies.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn expire_images(&self, keep: Duration) -> Result<Vec<String>, StoreError> {
        let now = now_ms();
        let rows = sqlx::query(
            "update study set images_gone_ms = ?1 where images_gone_ms is null
             and exists (select 1 from job where job.study = study.id)
             and not exists (select 1 from job where job.study = study.id
                             and (job.finished_ms is null or job.finished_ms > ?2))
             returning id",
        )
        .bind(now)
        .bind(now - keep.as_millis() as i64)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether this study's images are to be on disk.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_images(&self, study: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from study where id = ? and images_gone_ms is null")
            .bind(study)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Notes who did what to which study or job.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit(&self, actor: &str, action: &str, subject: &str) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(audit(&mut connection, actor, action, subject).await?)
    }

    /// The audit trail as actor, action and subject, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit_trail(&self) -> Result<Vec<(String, String, String)>, StoreError> {
        let rows = sqlx::query("select actor, action, subject from audit order by seq").fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Waits for open statements and folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[implements("SR-002", "SW-905")]
async fn audit(
    connection: &mut sqlx::SqliteConnection,
    actor: &str,
    action: &str,
    subject: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into audit (at_ms, actor, action, subject) values (?, ?, ?, ?)")
        .bind(now_ms())
        .bind(actor)
        .bind(action)
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

/// 128 random bits in hex: an id that cannot be guessed and says nothing.
///
/// # Panics
/// If the operating system has no randomness; nothing can be kept apart then.
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    crate::intake::hex(&bytes)
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const LEASE: Duration = Duration::from_secs(60);

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Store::open(&folder.path().join("serve.sqlite")).await.unwrap(), folder)
    }

    async fn order(store: &Store, idempotency: Option<(&str, &str)>, queue_limit: u32) -> Placed {
        let study = NewStudy { id: random_id(), files: 2, bytes: 10, sha256: "ab".into() };
        let jobs = [(study.id.clone(), None)];
        let order = Order { new_study: Some(&study), jobs: &jobs, actor: "pacs", idempotency, queue_limit };
        store.place(order).await.unwrap()
    }

    async fn order_new(store: &Store) -> String {
        match order(store, None, 10).await {
            Placed::New(ids) => ids[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn jobs_are_begun_in_order_of_arrival_and_once() {
        let (store, _folder) = store().await;
        let ids = [order_new(&store).await, order_new(&store).await];
        for id in &ids {
            assert_eq!(store.claim("w", LEASE).await.unwrap().unwrap().id, *id);
        }
        assert_eq!(store.claim("w", LEASE).await.unwrap(), None);
    }

    #[verifies("PR-002", "SW-801")]
    #[tokio::test(flavor = "multi_thread")]
    async fn eight_workers_never_share_a_job() {
        let (store, _folder) = store().await;
        let mut ordered = Vec::new();
        for _ in 0..10 {
            ordered.push(order_new(&store).await);
        }
        let claims = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                while let Some(job) = store.claim("w", LEASE).await.unwrap() {
                    mine.push(job.id);
                }
                mine
            })
        });
        let mut claimed = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            claimed.extend(claim.await.unwrap());
        }
        claimed.sort();
        ordered.sort();
        assert_eq!(claimed, ordered);
    }

    #[verifies("PR-003", "SW-801", "R-005")]
    #[tokio::test]
    async fn a_lease_that_ran_out_passes_the_job_on_and_shuts_the_old_worker_out() {
        let (store, _folder) = store().await;
        let id = order_new(&store).await;
        let first = store.claim("a", Duration::ZERO).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = store.claim("b", LEASE).await.unwrap().unwrap();
        assert_eq!((second.id.as_str(), second.attempts), (id.as_str(), 2));
        assert!(!store.renew(&first, LEASE).await.unwrap());
        let late = Ending::Succeeded("\"late\"".into());
        assert!(!store.finish(&first, &late, None, &[]).await.unwrap());
        let right = Ending::Succeeded("\"right\"".into());
        assert!(store.finish(&second, &right, None, &[]).await.unwrap());
        assert_eq!(store.job(&id).await.unwrap().unwrap().result.unwrap(), "\"right\"");
    }

    #[verifies("PR-002", "PR-003", "SW-802", "R-005")]
    #[tokio::test]
    async fn a_restart_queues_running_jobs_again() {
        let (store, folder) = store().await;
        let id = order_new(&store).await;
        store.claim("w", LEASE).await.unwrap().unwrap();
        store.close().await;
        let store = Store::open(&folder.path().join("serve.sqlite")).await.unwrap();
        assert_eq!(store.claim("w", LEASE).await.unwrap(), None, "the dead process still holds the lease");
        assert_eq!(store.requeue_orphans().await.unwrap(), 1);
        assert_eq!(store.claim("w", LEASE).await.unwrap().unwrap().id, id);
    }

    #[tokio::test]
    async fn the_same_key_gives_the_same_job_and_another_request_is_refused() {
        let (store, _folder) = store().await;
        let Placed::New(first) = order(&store, Some(("key", "request")), 10).await else { panic!() };
        assert_eq!(order(&store, Some(("key", "request")), 10).await, Placed::Before(first));
        assert_eq!(order(&store, Some(("key", "other")), 10).await, Placed::KeyReused);
        assert_eq!(store.depth().await.unwrap().queued, 1);
    }

    #[tokio::test]
    async fn a_full_queue_accepts_nothing() {
        let (store, _folder) = store().await;
        order_new(&store).await;
        let before = store.audit_trail().await.unwrap();
        assert_eq!(order(&store, None, 1).await, Placed::QueueFull);
        assert_eq!(store.depth().await.unwrap().queued, 1);
        assert_eq!(store.audit_trail().await.unwrap(), before);
    }

    #[verifies("SR-002", "SW-905")]
    #[tokio::test]
    async fn acceptance_and_end_are_audited() {
        let (store, _folder) = store().await;
        let id = order_new(&store).await;
        let job = store.claim("w", LEASE).await.unwrap().unwrap();
        let failed = Ending::Failed(Failure::new("no-ct-series", "no CT series in the study"));
        store.finish(&job, &failed, None, &[]).await.unwrap();
        let expected = [
            ("pacs", "receive-study", job.study.as_str()),
            ("pacs", "order-analysis", &id),
            ("system", "analysis-failed", &id),
        ];
        let trail = store.audit_trail().await.unwrap();
        let trail: Vec<_> = trail.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(trail, expected);
    }

    #[tokio::test]
    async fn a_study_is_found_by_its_uids_while_its_images_are_here() {
        let (store, _folder) = store().await;
        order_new(&store).await;
        let job = store.claim("w", LEASE).await.unwrap().unwrap();
        let series = ["1.2.1".to_owned(), "1.2.2".to_owned()];
        assert!(store.expire_images(Duration::ZERO).await.unwrap().is_empty(), "a running analysis needs its images");
        store.finish(&job, &Ending::Succeeded("{}".into()), Some("1.2"), &series).await.unwrap();
        assert_eq!(store.find_study("1.2", None).await.unwrap().as_ref(), Some(&job.study));
        assert_eq!(store.find_study("1.2", Some("1.2.2")).await.unwrap().as_ref(), Some(&job.study));
        assert_eq!(store.find_study("1.2", Some("1.2.3")).await.unwrap(), None);
        assert!(store.expire_images(Duration::from_secs(3600)).await.unwrap().is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(store.expire_images(Duration::ZERO).await.unwrap(), std::slice::from_ref(&job.study));
        assert_eq!(store.find_study("1.2", None).await.unwrap(), None);
        assert!(!store.has_images(&job.study).await.unwrap());
    }
}
