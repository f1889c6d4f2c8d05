-- A role that may read. {role}: an identifier.

-- name: role_exists
-- $1 text: its name.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1);

-- name: create_role
CREATE ROLE {role} LOGIN;

-- name: revoke
-- What an earlier version granted. Rights on columns go with those on their table.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
GRANT USAGE ON SCHEMA public TO {role};

-- name: settings
-- Days are UTC days; nobody's query holds the others up for ever.
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET timezone = 'UTC';
ALTER ROLE {role} SET statement_timeout = '10min';

-- name: grant
-- {of}: the columns in brackets, or nothing; {table}: a table or view.
GRANT SELECT{of} ON {table} TO {role};
