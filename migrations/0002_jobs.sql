-- Scheduled jobs: what is to run, what ran, and what became of it. The queue that hands runs to workers is apalis's own
-- (schema apalis) and only says that a run may be waiting; these tables are the truth.

-- How far the schedule of each job has been turned into runs.
CREATE TABLE job_schedules (
    job       text PRIMARY KEY,
    next_date date NOT NULL -- the first business day that has not been looked at
);

-- One row per job and data interval, however often it is executed.
CREATE TABLE job_runs (
    run_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job            text        NOT NULL,
    data_date      date        NOT NULL, -- the business day that the interval is
    timezone       text        NOT NULL,
    interval_start timestamptz NOT NULL,
    interval_end   timestamptz NOT NULL CHECK (interval_end > interval_start),
    state          text        NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    cause          text        NOT NULL CHECK (cause IN ('schedule', 'trigger', 'backfill')),
    claim          integer     NOT NULL DEFAULT 0, -- rises with every worker that takes the run: fences out who was there before
    losses         integer     NOT NULL DEFAULT 0, -- workers that took it and were heard of no more, since it was last asked for
    worker         text,
    queue_id       text,                           -- the row of apalis.jobs that announces it
    created_at     timestamptz NOT NULL DEFAULT now(),
    queued_at      timestamptz,
    started_at     timestamptz,
    heartbeat_at   timestamptz,
    finished_at    timestamptz,
    rows           bigint,
    error          text,
    UNIQUE (job, interval_start, interval_end),
    CHECK (state <> 'running' OR (worker IS NOT NULL AND heartbeat_at IS NOT NULL))
);
CREATE INDEX job_runs_unfinished ON job_runs (state) WHERE state IN ('queued', 'running');
CREATE INDEX job_runs_by_date ON job_runs (job, data_date DESC);

-- The tasks of a run that have been begun at least once.
CREATE TABLE job_tasks (
    run_id      bigint      NOT NULL REFERENCES job_runs ON DELETE CASCADE,
    task        text        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    attempts    integer     NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    rows        bigint,
    output      jsonb,
    error       text,
    PRIMARY KEY (run_id, task)
);
