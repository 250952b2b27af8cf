-- Times are milliseconds since 1970 (UTC). Ids are random; none is derived from a patient or a study.

create table study (
    id               text primary key,  -- also the name of its folder below `studies/`
    received_ms      integer not null,
    files            integer not null,
    bytes            integer not null,
    sha256           text    not null,  -- of the files' contents in order of arrival
    images_gone_ms   integer            -- when the images were removed, their keeping time being over
);

-- Known once a study has been read.
create table series (
    study            text not null references study (id),
    study_uid        text not null,
    series_uid       text not null,
    primary key (study, series_uid)
);
create index series_by_uid on series (study_uid, series_uid);

create table job (
    seq              integer primary key autoincrement,
    id               text    not null unique,
    study            text    not null references study (id),
    series_uid       text,              -- null: the study's largest series
    state            text    not null check (state in ('queued', 'running', 'succeeded', 'failed', 'rejected')),
    attempts         integer not null default 0,
    lease_owner      text,
    lease_until_ms   integer,
    created_ms       integer not null,
    finished_ms      integer,
    result           text,              -- JSON, of a job that succeeded or was rejected
    error            text               -- JSON, of a job that failed
);
create index job_open on job (seq) where state in ('queued', 'running');
create index job_study on job (study);

-- Keys are kept as hashes: nobody can know what a client puts into them.
create table idempotency (
    owner            text    not null,
    key_sha256       text    not null,
    request_sha256   text    not null,
    jobs             text    not null,  -- ids, separated by spaces
    created_ms       integer not null,
    primary key (owner, key_sha256)
);

create table audit (
    seq              integer primary key autoincrement,
    at_ms            integer not null,
    actor            text    not null,  -- name of the API key, `local` without keys, `system`
    action           text    not null,
    subject          text    not null   -- id of a study or job
);
