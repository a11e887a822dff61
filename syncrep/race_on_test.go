//go:build race

package syncrep

const raceEnabled = true
