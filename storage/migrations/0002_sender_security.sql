-- What an advertiser's postbacks must carry, where they must come from, and how many of them are taken.

ALTER TABLE advertisers
    ADD COLUMN signing_secrets     text[] NOT NULL DEFAULT '{}' CHECK (cardinality(signing_secrets) <= 2),
    ADD COLUMN signature_window_ms bigint CHECK (signature_window_ms > 0),
    ADD COLUMN allowed_addresses   cidr[] NOT NULL DEFAULT '{}',
    ADD COLUMN rate_limit          int CHECK (rate_limit > 0);
COMMENT ON COLUMN advertisers.signing_secrets IS 'Secrets of HMAC signatures, encrypted, as enc:<base64url>; none: no signature is asked for.';
COMMENT ON COLUMN advertisers.signature_window_ms IS 'How far a signature''s time may be from when it was received; null: five minutes.';
COMMENT ON COLUMN advertisers.allowed_addresses IS 'Where postbacks may come from; none: anywhere.';
COMMENT ON COLUMN advertisers.rate_limit IS 'The most postbacks a second that one receiver takes; null: no limit.';
