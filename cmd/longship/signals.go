package main

import (
	"os"
	"os/signal"
	"syscall"
)

// onHangup calls do at each SIGHUP, one call after the other, until stop is called, which waits for it.
func onHangup(do func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				do()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}

// onSignals calls first at the first SIGINT or SIGTERM and second at the next one, until stop is
// called. Signals that are not listed keep what the system does with them.
func onSignals(first, second func(), more ...os.Signal) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, append(more, syscall.SIGINT, syscall.SIGTERM)...)
	done := make(chan struct{})
	go func() {
		for _, do := range []func(){first, second} {
			select {
			case <-signals:
				do()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
