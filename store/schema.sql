-- SPDX-License-Identifier: Apache-2.0
-- store/schema.sql - the tables of store.db, embedded in the program.
--
-- One section for each migration, begun by a line of exactly this form with the numbers in order; a database
-- whose user_version is N gets the sections behind N, each in a transaction of its own. A section that was
-- released is never changed. Counts (refs, totals, shares) are kept by triggers, so that no statement can forget one.

-- migration 1
-- The content of files, once each, in objects/<sha256 in hex>. `refs`: rows of `files` that name it; 0: it goes.
CREATE TABLE objects (
    sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
    size INTEGER NOT NULL,
    refs INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- A run that was answered. `json`: members of the answer, without artifacts.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    json BLOB NOT NULL
) STRICT;
CREATE INDEX runs_created ON runs (created_ms);

-- One name of some content: an upload, or what a run left behind. Such an artifact is put before its run.
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    upload INTEGER NOT NULL,
    run_id TEXT,
    place INTEGER NOT NULL DEFAULT 0, -- in the run's list
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    name BLOB NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX files_run ON files (run_id, place) WHERE run_id IS NOT NULL;
CREATE INDEX files_created ON files (created_ms) WHERE run_id IS NULL;

-- What retention and shares ask for, without counting.
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    runs INTEGER NOT NULL,
    bytes INTEGER NOT NULL -- of objects and of runs' json
) STRICT;
INSERT INTO totals VALUES (1, 0, 0);
CREATE TABLE shares (
    key TEXT PRIMARY KEY,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER objects_come AFTER INSERT ON objects BEGIN
    UPDATE totals SET bytes = bytes + new.size;
END;
CREATE TRIGGER objects_go AFTER DELETE ON objects BEGIN
    UPDATE totals SET bytes = bytes - old.size;
END;
CREATE TRIGGER runs_come AFTER INSERT ON runs BEGIN
    UPDATE totals SET runs = runs + 1, bytes = bytes + length(new.json);
END;
CREATE TRIGGER runs_change AFTER UPDATE OF json ON runs BEGIN
    UPDATE totals SET bytes = bytes + length(new.json) - length(old.json);
END;
CREATE TRIGGER runs_go AFTER DELETE ON runs BEGIN
    UPDATE totals SET runs = runs - 1, bytes = bytes - length(old.json);
END;
CREATE TRIGGER files_come AFTER INSERT ON files BEGIN
    UPDATE objects SET refs = refs + 1 WHERE sha256 = new.sha256;
END;
CREATE TRIGGER files_go AFTER DELETE ON files BEGIN
    UPDATE objects SET refs = refs - 1 WHERE sha256 = old.sha256;
    DELETE FROM objects WHERE sha256 = old.sha256 AND refs = 0;
END;
CREATE TRIGGER uploads_come AFTER INSERT ON files WHEN new.upload BEGIN
    INSERT INTO shares VALUES (new.key, 1, new.size)
        ON CONFLICT (key) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER uploads_go AFTER DELETE ON files WHEN old.upload BEGIN
    UPDATE shares SET files = files - 1, bytes = bytes - old.size WHERE key = old.key;
    DELETE FROM shares WHERE key = old.key AND files = 0;
END;

-- migration 2
-- What each key's runs and files take, contents counted as often as they are named. When there is too much, what goes
-- is the oldest of the key that has most: a key that fills the store loses its own.
CREATE TABLE holdings (
    key TEXT PRIMARY KEY,
    runs INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO holdings SELECT key, sum(one), sum(size) FROM (
    SELECT key, 1 AS one, length(json) AS size FROM runs UNION ALL SELECT key, 0, size FROM files) GROUP BY key;
CREATE INDEX runs_of_key ON runs (key, created_ms);
CREATE INDEX files_of_key ON files (key, created_ms) WHERE run_id IS NULL;

CREATE TRIGGER runs_held AFTER INSERT ON runs BEGIN
    INSERT INTO holdings VALUES (new.key, 1, length(new.json))
        ON CONFLICT (key) DO UPDATE SET runs = runs + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER runs_held_anew AFTER UPDATE OF json ON runs BEGIN
    UPDATE holdings SET bytes = bytes + length(new.json) - length(old.json) WHERE key = new.key;
END;
CREATE TRIGGER runs_let_go AFTER DELETE ON runs BEGIN
    UPDATE holdings SET runs = runs - 1, bytes = bytes - length(old.json) WHERE key = old.key;
    DELETE FROM holdings WHERE key = old.key AND runs = 0 AND bytes = 0;
END;
CREATE TRIGGER files_held AFTER INSERT ON files BEGIN
    INSERT INTO holdings VALUES (new.key, 0, new.size)
        ON CONFLICT (key) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER files_let_go AFTER DELETE ON files BEGIN
    UPDATE holdings SET bytes = bytes - old.size WHERE key = old.key;
    DELETE FROM holdings WHERE key = old.key AND runs = 0 AND bytes = 0;
END;

-- migration 3
-- A job (store/jobs.h). `state`: enum store_job_state; 2 and more: it has ended, and outputs/<id>.txt is there.
-- `bytes`: of the request while it waits, of what it left once it has ended. An ended one counts as a run.
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    user BLOB NOT NULL,
    language TEXT NOT NULL,
    ns_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    completed_ms INTEGER NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    timeout_ms_ceiling INTEGER NOT NULL,
    memory_bytes_ceiling INTEGER NOT NULL,
    cpu_ms_ceiling INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    preview BLOB NOT NULL DEFAULT x'',
    doc BLOB NOT NULL DEFAULT x'',
    body BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_waiting ON jobs (seq) WHERE state < 2;
CREATE INDEX jobs_ended ON jobs (seq) WHERE state >= 2;
CREATE INDEX jobs_of_key ON jobs (key, seq);
CREATE INDEX jobs_ended_of_key ON jobs (key, seq) WHERE state >= 2;

CREATE TRIGGER jobs_come AFTER INSERT ON jobs BEGIN
    UPDATE totals SET bytes = bytes + new.bytes;
    INSERT INTO holdings VALUES (new.key, 0, new.bytes)
        ON CONFLICT (key) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER jobs_end AFTER UPDATE OF state ON jobs WHEN old.state < 2 AND new.state >= 2 BEGIN
    UPDATE totals SET runs = runs + 1, bytes = bytes + new.bytes - old.bytes;
    UPDATE holdings SET runs = runs + 1, bytes = bytes + new.bytes - old.bytes WHERE key = new.key;
END;
CREATE TRIGGER jobs_go AFTER DELETE ON jobs BEGIN
    UPDATE totals SET runs = runs - (old.state >= 2), bytes = bytes - old.bytes;
    UPDATE holdings SET runs = runs - (old.state >= 2), bytes = bytes - old.bytes WHERE key = old.key;
    DELETE FROM holdings WHERE key = old.key AND runs = 0 AND bytes = 0;
END;

-- migration 4
-- Requests with an Idempotency-Key, of each key of the API by itself. `state`: 0 under way, 1 answered, 2 over, but its
-- answer is not here, 3 its process died meanwhile, so nobody knows. `answer`: head_len bytes of headers, then the body.
CREATE TABLE once (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 32), -- a hash: what was asked for
    created_ms INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL DEFAULT 0,
    type TEXT NOT NULL DEFAULT '',
    head_len INTEGER NOT NULL DEFAULT 0,
    answer BLOB NOT NULL DEFAULT x'',
    UNIQUE (key, name)
) STRICT;
CREATE INDEX once_created ON once (created_ms) WHERE state != 0;
CREATE INDEX once_of_key ON once (key, created_ms) WHERE state != 0;
CREATE INDEX once_answered ON once (key, created_ms) WHERE state = 1;

CREATE TABLE once_totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    names INTEGER NOT NULL,
    bytes INTEGER NOT NULL -- of answers
) STRICT;
INSERT INTO once_totals VALUES (1, 0, 0);
CREATE TABLE once_shares (
    key TEXT PRIMARY KEY,
    names INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER once_come AFTER INSERT ON once BEGIN
    UPDATE once_totals SET names = names + 1, bytes = bytes + length(new.answer);
    INSERT INTO once_shares VALUES (new.key, 1, length(new.answer))
        ON CONFLICT (key) DO UPDATE SET names = names + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER once_change AFTER UPDATE OF answer ON once BEGIN
    UPDATE once_totals SET bytes = bytes + length(new.answer) - length(old.answer);
    UPDATE once_shares SET bytes = bytes + length(new.answer) - length(old.answer) WHERE key = new.key;
END;
CREATE TRIGGER once_go AFTER DELETE ON once BEGIN
    UPDATE once_totals SET names = names - 1, bytes = bytes - length(old.answer);
    UPDATE once_shares SET names = names - 1, bytes = bytes - length(old.answer) WHERE key = old.key;
    DELETE FROM once_shares WHERE key = old.key AND names = 0;
END;

-- What the runs of a key took, day by day (UTC, counted from the epoch).
CREATE TABLE usage (
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    cpu_us INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    output_bytes INTEGER NOT NULL,
    PRIMARY KEY (key, day)
) STRICT, WITHOUT ROWID;

-- Lists of runs: `status`, and how much of `json` comes before the outputs. Both indices answer without the table.
ALTER TABLE runs ADD COLUMN status TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN head_len INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET head_len = max(instr(json, CAST(',"stdout":"' AS BLOB)) - 1, 0);
UPDATE runs SET status = coalesce(json_extract('{' || CAST(substr(json, 1, head_len) AS TEXT) || '}', '$.status'), '')
    WHERE json_valid('{' || CAST(substr(json, 1, head_len) AS TEXT) || '}');
DROP INDEX runs_of_key;
CREATE INDEX runs_listed ON runs (key, created_ms, id, status, head_len);
CREATE INDEX runs_by_status ON runs (key, status, created_ms, id, head_len);

-- migration 5
-- That the receiver which a job named (callback_url) is to be told of its end; put in the transaction that ends the job, and
-- what is told is the job's row. `host`: of url, with its port: deliveries of one host wait for each other, not for others'.
ALTER TABLE jobs ADD COLUMN callback_url TEXT NOT NULL DEFAULT '';
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL,
    key TEXT NOT NULL,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, -- enum store_delivery_state
    next_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX deliveries_due ON deliveries (host, next_ms) WHERE state = 0;
CREATE INDEX deliveries_of_job ON deliveries (job_id);
CREATE INDEX deliveries_created ON deliveries (created_ms);

CREATE TABLE attempts (
    delivery_id TEXT NOT NULL,
    number INTEGER NOT NULL, -- from 1
    started_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status INTEGER NOT NULL, -- of HTTP; 0: none came
    error TEXT NOT NULL,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER jobs_told_go AFTER DELETE ON jobs BEGIN
    DELETE FROM deliveries WHERE job_id = old.id;
END;
CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries BEGIN
    DELETE FROM attempts WHERE delivery_id = old.id;
END;

-- migration 6
-- Keys take turns, and within a key hosts do.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (key, host, next_ms) WHERE state = 0;

-- migration 7
-- `whole`: what was asked for is stored by the transaction that stores the answer, so one that is under way at a start was
-- not done.
ALTER TABLE once ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;
-- Runs that were promised and have not ended are `open`; their json says what became of them should nothing else be known.
CREATE INDEX runs_open ON runs (id) WHERE status = 'open';
-- Lists of jobs: what is not asked for is passed over without reading its row.
CREATE INDEX jobs_listed ON jobs (key, seq, state);
DROP INDEX jobs_of_key;

-- migration 8
-- An ended job's age counts from its end. `untold`: its deliveries that are pending; of too many jobs those go last.
ALTER TABLE jobs ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET untold = (SELECT count(*) FROM deliveries WHERE job_id = jobs.id AND deliveries.state = 0);
CREATE TRIGGER deliveries_wait AFTER INSERT ON deliveries WHEN new.state = 0 BEGIN
    UPDATE jobs SET untold = untold + 1 WHERE id = new.job_id;
END;
CREATE TRIGGER deliveries_end AFTER UPDATE OF state ON deliveries WHEN old.state = 0 AND new.state <> 0 BEGIN
    UPDATE jobs SET untold = untold - 1 WHERE id = new.job_id;
END;
CREATE TRIGGER deliveries_drop AFTER DELETE ON deliveries WHEN old.state = 0 BEGIN
    UPDATE jobs SET untold = untold - 1 WHERE id = old.job_id;
END;
DROP INDEX jobs_ended;
DROP INDEX jobs_ended_of_key;
CREATE INDEX jobs_ended ON jobs (untold, completed_ms) WHERE state >= 2;
CREATE INDEX jobs_ended_of_key ON jobs (key, untold, completed_ms) WHERE state >= 2;
