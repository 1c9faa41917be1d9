-- What an auditor asks. Year and month are of the recording (the UTC day of Twilio's date_created); change them in each query.

-- 1. Which recordings are archived, where, with which SHA-256, and is the source gone?
SELECT r.recording_sid, r.call_sid, r.conference_sid, r.source.start_time, r.media.duration_seconds, r.media."key",
  r.media.version_id, r.media.bytes, r.media.sha256, r.archived_at, d.deleted_at
FROM receipts r
LEFT JOIN deletions d
  ON d.recording_sid = r.recording_sid AND d."schema" = 'recording-deletion/1' AND d.year = 2026 AND d.month = 11
WHERE r.year = 2026 AND r.month = 11
ORDER BY r.archived_at, r.recording_sid;

-- 2. Is every day complete? How many were archived, deleted at Twilio and without audio, and how much is it?
SELECT account, year, month, day, sum(archived) AS archived, sum(bytes) AS bytes, sum(hours) AS hours,
  sum(deleted) AS deleted, sum(absent) AS absent
FROM (
  SELECT account, year, month, day, 1 AS archived, media.bytes AS bytes, media.duration_seconds / 3600 AS hours,
    0 AS deleted, 0 AS absent
  FROM receipts
  UNION ALL
  SELECT account, year, month, day, 0, 0, 0, 1, 0 FROM deletions WHERE "schema" = 'recording-deletion/1'
  UNION ALL
  SELECT account, year, month, day, 0, 0, 0, 0, 1 FROM absences
) AS documents
WHERE year = 2026 AND month = 11
GROUP BY account, year, month, day
ORDER BY account, year, month, day;

-- 3. Was anything deleted at Twilio without a proof that came before, by somebody else, or without Twilio's confirmation?
SELECT d.recording_sid, d.deleted_at, r.archived_at, r.verification.verified_at, d.answer.status,
  CASE
    WHEN r.recording_sid IS NULL THEN 'no receipt'
    WHEN r.verification.verified_at > d.deleted_at THEN 'the proof came later'
    WHEN d.answer.by_archiver = false THEN 'deleted by somebody else'
    ELSE 'not confirmed'
  END AS finding
FROM deletions d
LEFT JOIN receipts r ON r.recording_sid = d.recording_sid AND r.year = 2026 AND r.month = 11
WHERE d.year = 2026 AND d.month = 11 AND d."schema" = 'recording-deletion/1'
  AND (r.recording_sid IS NULL
    OR r.verification.verified_at > d.deleted_at
    OR coalesce(d.answer.by_archiver, true) = false
    OR coalesce(d.confirmation.status, 'deleted') <> 'deleted')
ORDER BY d.deleted_at, d.recording_sid;

-- 4. Is everything retained and encrypted as the law asks? What is not in compliance mode until 6 years after its start?
SELECT recording_sid, source.start_time, storage.object_lock_mode, storage.retain_until, storage.retention, storage.sse,
  storage.kms_key_id
FROM receipts
WHERE year = 2026 AND month = 11
  AND (coalesce(storage.object_lock_mode, 'none') <> 'COMPLIANCE'
    OR from_iso8601_timestamp(storage.retain_until)
      < date_parse(source.start_time, '%a, %d %b %Y %H:%i:%s +0000') + INTERVAL '2192' DAY
    OR coalesce(storage.sse, 'none') <> 'aws:kms')
ORDER BY recording_sid;

-- 5. How soon after its end was a recording archived, and how was it found?
SELECT account, found, count(*) AS recordings, approx_percentile(late_s, 0.5) AS half_within_s,
  approx_percentile(late_s, 0.95) AS most_within_s, max(late_s) AS all_within_s, sum(failed_before) AS failed_before
FROM (
  SELECT account, CASE WHEN callback.received_at IS NULL THEN 'by the sweep' ELSE 'by its callback' END AS found,
    date_diff('second', date_parse(source.start_time, '%a, %d %b %Y %H:%i:%s +0000'),
      CAST(from_iso8601_timestamp(archived_at) AS timestamp)) - CAST(source.duration AS bigint) AS late_s,
    CASE WHEN quarantine.attempts IS NULL THEN 0 ELSE 1 END AS failed_before
  FROM receipts
  WHERE year = 2026 AND month = 11
) AS archived
GROUP BY account, found
ORDER BY account, found;
