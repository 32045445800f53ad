-- +goose Up
-- The evidence of a good check, about one an hour for each monitor and region, to show
-- beside that of a failure. Like check_results it has no foreign key: a result must not
-- fail because its monitor is being deleted.
CREATE TABLE last_good (
    monitor_id BIGINT NOT NULL,
    region_id  BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    evidence   TEXT   NOT NULL,
    PRIMARY KEY (monitor_id, region_id)
);

-- The copy that an incident keeps, a JSON object; empty where there was none.
ALTER TABLE incidents ADD COLUMN last_good TEXT NOT NULL DEFAULT '';

-- +goose Down
DO $$ BEGIN RAISE 'a downgrade is not possible: restore the backup made before the upgrade'; END $$;
