package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measured returns the rate and what a call took: seconds from ask to answer, and of processor time on each side.
func measured(repeat repeater, lasting time.Duration, pid string) map[string]float64 {
	started, here, there := time.Now(), ownSeconds(), processorSeconds(pid)
	latencies := repeat(lasting)
	elapsed := time.Since(started).Seconds()
	here, there = ownSeconds()-here, processorSeconds(pid)-there
	slices.Sort(latencies)
	calls := len(latencies)
	return map[string]float64{
		"rate":       float64(calls) / elapsed,
		"p50":        latencies[calls/2].Seconds(),
		"p99":        latencies[min(calls-1, calls*99/100)].Seconds(),
		"client_cpu": here / float64(calls),
		"server_cpu": there / float64(calls),
	}
}

// ownSeconds returns the processor time that this process has had.
func ownSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// processorSeconds returns the processor time of another process: fields 14 and 15 of its stat, in hundredths.
func processorSeconds(pid string) float64 {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	check(err)
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	check(err)
	system, err := strconv.ParseFloat(fields[12], 64)
	check(err)
	return (user + system) / 100
}
