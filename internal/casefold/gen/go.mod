// Module gen writes the tables of package casefold. It is a module of its own,
// so that golang.org/x/text is needed to write the tables, and never to use them.
module github.com/gobcachefs/gobcachefs/internal/casefold/gen

go 1.26.0

require golang.org/x/text v0.43.0
