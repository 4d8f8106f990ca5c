// Checker judges a history that scripts/robustness recorded: is there, for each thread, one order of
// its calls that a log explains?
//
// Usage: checker [-timeout=2m] HISTORY. Exit code: 0 there is, 1 there is none, 2 undecided when the
// time was up, 3 the history cannot be read.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

func main() {
	timeout := flag.Duration("timeout", 2*time.Minute, "for the whole history")
	flag.Parse()
	code, err := judge(flag.Arg(0), time.Now().Add(*timeout))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 3
	}
	os.Exit(code)
}

// judge prints the verdict on each thread, and returns the exit code.
func judge(path string, deadline time.Time) (int, error) {
	threads, faults, err := load(path)
	if err != nil {
		return 0, err
	}
	illegal, undecided := false, false
	for _, thread := range slices.Sorted(maps.Keys(threads)) {
		calls, err := settle(threads[thread])
		if err != nil {
			return 0, fmt.Errorf("%s: %w", thread, err)
		}
		history := make([]porcupine.Operation, len(calls))
		for at, call := range calls {
			history[at] = porcupine.Operation{
				ClientId: call.Client, Input: call, Call: call.Call, Return: call.Returned,
			}
		}
		// A timeout of 0 would be none.
		left := func() time.Duration { return max(time.Until(deadline), time.Millisecond) }
		began := time.Now()
		result := porcupine.CheckOperationsTimeout(model, history, left())
		took := time.Since(began).Seconds()
		fmt.Printf("  thread %s: %d calls, %s (%.1f s)\n", thread, len(calls), verdicts[result], took)
		switch result {
		case porcupine.Unknown:
			undecided = true
		case porcupine.Illegal:
			illegal = true
			page := fmt.Sprintf("%s-%s.html", strings.TrimSuffix(path, ".jsonl"), thread)
			if err := show(history, faults, page, left()); err != nil {
				return 0, err
			}
			fmt.Printf("    shown in %s\n", page)
		}
	}
	switch {
	case illegal:
		return 1, nil
	case undecided:
		return 2, nil
	}
	return 0, nil
}

var verdicts = map[porcupine.CheckResult]string{
	porcupine.Ok:      "ok",
	porcupine.Illegal: "ILLEGAL: no order of them explains the answers",
	porcupine.Unknown: "UNKNOWN: undecided when the time was up",
}

// show writes a page with the longest orders of calls that can be explained, and the faults.
func show(
	history []porcupine.Operation, faults []*operation, page string, timeout time.Duration,
) error {
	_, info := porcupine.CheckOperationsVerbose(model, history, timeout)
	annotations := make([]porcupine.Annotation, len(faults))
	for at, fault := range faults {
		annotations[at] = porcupine.Annotation{
			Tag: "faults", Start: fault.Call, End: fault.Returned, Description: fault.Content,
		}
	}
	info.AddAnnotations(annotations)
	return porcupine.VisualizePath(model, info, page)
}
