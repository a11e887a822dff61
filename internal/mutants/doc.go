// Command mutants proves that the tests notice when a safety rule is missing. mutants.txt lists small
// patches of the product, each of which takes one rule away, with the test that must fail because of it.
// A patch is laid over the source with go test -overlay: nothing of it is ever in the tree.
//
//	go run ./internal/mutants                  all of them
//	go run ./internal/mutants -run 'I4|wal'    those whose name or rule matches
//	go run ./internal/mutants -find -run NAME  which tests of the patched package notice it
//	go run ./internal/mutants -by './election TestCore' -run NAME   whether that test does
//	go run ./internal/mutants -table           the table of docs/testing.md
//
// To add one, write it down in mutants.txt, let -find name the tests that notice it, note the one that
// says best what is lost, and let -table -write bring the table up to date.
package main
