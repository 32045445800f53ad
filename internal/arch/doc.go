// Package arch holds the test that keeps the architecture: a table of every
// package and of the packages of ours it may import. A package that is not in the
// table, or an import that its row does not list, fails the build's tests, so the
// table is the map of the system and cannot go stale. docs/architecture.md tells
// the same in words.
package arch
