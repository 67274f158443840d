package main

import (
	"sort"
	"sync"
	"time"
)

func init() {
	cases["rate_1"] = func() error { return rate(1) }
	cases["rate_64"] = func() error { return rate(64) }
}

// rate says how many calls so many callers make in a second, and how long one takes.
func rate(callers int) error {
	if err := eventually(5, func() error { return call("Plain.Echo", new(Note), new(Note)) }); err != nil {
		return err
	}
	if _, err := called(callers, 500*time.Millisecond); err != nil {
		return err
	}
	span := 2 * time.Second
	took, err := called(callers, span)
	if err != nil {
		return err
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	say(map[string]interface{}{
		"event": "rate", "callers": callers, "rate": float64(len(took)) / span.Seconds(),
		"p50": took[len(took)/2].Seconds(), "p99": took[len(took)*99/100].Seconds(),
	})
	return nil
}

func called(callers int, span time.Duration) ([]time.Duration, error) {
	var mutex sync.Mutex
	all, end := []time.Duration{}, time.Now().Add(span)
	err := together(callers, func(int) error {
		took := []time.Duration{}
		for time.Now().Before(end) {
			started := time.Now()
			if err := call("Plain.Echo", &Note{Text: "John"}, new(Note)); err != nil {
				return err
			}
			took = append(took, time.Since(started))
		}
		mutex.Lock()
		defer mutex.Unlock()
		all = append(all, took...)
		return nil
	})
	return all, err
}
