-- Tables over the archive's documents. Fill in BUCKET, PREFIX (empty, or ends with a slash) and ACCOUNTS (AC…,AC…):
--   sed 's|BUCKET|my-recordings|; s|PREFIX|calls/|; s|ACCOUNTS|AC…,AC…|' deploy/athena/tables.sql
-- Athena takes one statement at a time. Partitions are projected: nothing has to be added when a day begins.
-- The columns are those that the queries need, and more can be added: the documents have them (app/receipt.py).

CREATE EXTERNAL TABLE receipts (
  `schema` string,
  recording_sid string,
  account_sid string,
  call_sid string,
  conference_sid string,
  source struct<start_time: string, date_created: string, duration: string, channels: int, source: string, status: string>,
  callback struct<received_at: string>,
  media struct<`bucket`: string, `key`: string, version_id: string, format: string, bytes: bigint, sha256: string,
    channels: int, duration_seconds: double, requested_channels: int>,
  encryption struct<type: string, public_key_sid: string>,
  storage struct<sse: string, kms_key_id: string, storage_class: string, object_lock_mode: string, retain_until: string,
    retention: string>,
  verification struct<method: string, checksum: string, verified_at: string>,
  quarantine struct<attempts: int, first_failed_at: string, resolved_at: string>,
  archived_at string,
  archiver_version string
)
PARTITIONED BY (account string, year int, month int, day int)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/PREFIXreceipts/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.account.type' = 'enum',
  'projection.account.values' = 'ACCOUNTS',
  'projection.year.type' = 'integer',
  'projection.year.range' = '2008,2050',
  'projection.month.type' = 'integer',
  'projection.month.range' = '1,12',
  'projection.month.digits' = '2',
  'projection.day.type' = 'integer',
  'projection.day.range' = '1,31',
  'projection.day.digits' = '2',
  'storage.location.template' =
    's3://BUCKET/PREFIXreceipts/account=${account}/year=${year}/month=${month}/day=${day}/'
);

-- Both documents of a deletion: recording-deletion-request/1, written before the DELETE, and recording-deletion/1 after it.
CREATE EXTERNAL TABLE deletions (
  `schema` string,
  recording_sid string,
  account_sid string,
  receipt struct<`key`: string, version_id: string>,
  answer struct<status: int, by_archiver: boolean>,
  confirmation struct<status: string>,
  transcriptions struct<transcriptions: int, add_on_results: int, `key`: string, incomplete: string>,
  requested_at string,
  deleted_at string,
  archiver_version string
)
PARTITIONED BY (account string, year int, month int, day int)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/PREFIXdeletions/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.account.type' = 'enum',
  'projection.account.values' = 'ACCOUNTS',
  'projection.year.type' = 'integer',
  'projection.year.range' = '2008,2050',
  'projection.month.type' = 'integer',
  'projection.month.range' = '1,12',
  'projection.month.digits' = '2',
  'projection.day.type' = 'integer',
  'projection.day.range' = '1,31',
  'projection.day.digits' = '2',
  'storage.location.template' =
    's3://BUCKET/PREFIXdeletions/account=${account}/year=${year}/month=${month}/day=${day}/'
);

-- Absences that Twilio no longer knew are filed under day=undated, which is no partition of this table: list that prefix.
CREATE EXTERNAL TABLE absences (
  `schema` string,
  recording_sid string,
  account_sid string,
  call_sid string,
  conference_sid string,
  reason string,
  error_code int,
  explanation string,
  recorded_at string,
  archiver_version string
)
PARTITIONED BY (account string, year int, month int, day int)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/PREFIXabsences/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.account.type' = 'enum',
  'projection.account.values' = 'ACCOUNTS',
  'projection.year.type' = 'integer',
  'projection.year.range' = '2008,2050',
  'projection.month.type' = 'integer',
  'projection.month.range' = '1,12',
  'projection.month.digits' = '2',
  'projection.day.type' = 'integer',
  'projection.day.range' = '1,31',
  'projection.day.digits' = '2',
  'storage.location.template' =
    's3://BUCKET/PREFIXabsences/account=${account}/year=${year}/month=${month}/day=${day}/'
);
