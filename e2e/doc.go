// Package e2e holds the scenarios that a user would tell: something breaks, one
// incident opens, one mail and one webhook arrive; it recovers, one more of each.
// They drive the real binary over its API, in both modes, and kill it where it
// hurts. See cluster_test.go for how the processes are started.
package e2e
