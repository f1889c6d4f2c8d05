-- Keys for trackers, which register clicks and see nothing.

ALTER TABLE api_keys
    DROP CONSTRAINT api_keys_role_check,
    ADD CONSTRAINT api_keys_role_check CHECK (role IN ('read', 'admin', 'clicks'));
COMMENT ON COLUMN api_keys.role IS
    'read: may look at everything. admin: may change it too. clicks: may register clicks, and nothing else.';
