package longrope

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/search/searchtest"
)

// TestMain lets scripts run "ollama longrope …" on the fake engine, as a process of its own;
// ollama-engine is the same on the engine that the program has.
func TestMain(m *testing.M) {
	program := func(open opener) func() {
		return func() {
			// As the host's.
			root := &cobra.Command{Use: "ollama", SilenceErrors: true, SilenceUsage: true}
			root.AddCommand(newCommand(open))
			cobra.CheckErr(root.Execute())
		}
	}
	testscript.Main(m, map[string]func(){
		"ollama": program(openFake), "ollama-engine": program(openEngine),
	})
}

// TestScript runs testdata/script: each command as a user types it. The commands in addition to
// testscript's own:
//
//	tiny FILE [ARCH]       writes a model file of a few kilobytes (default llama): 16 rotary
//	                       dimensions, 128 tokens
//	checkpoint DIR         writes a checkpoint folder of the same model, with one tensor
//	store NAME FILE        puts a model into the store
//	nats VAR TOKEN         starts a NATS server that wants the token, and sets VAR to its URL
//	lines FILE N           waits until FILE has N lines
//	json FILE KEY [VALUE]  checks that FILE is one JSON object with KEY, at the top
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("OLLAMA_MODELS", e.WorkDir+"/store")
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"tiny": func(ts *testscript.TestScript, _ bool, args []string) {
				arch := "llama"
				if len(args) > 1 {
					arch = args[1]
				}
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), searchtest.TinyGGUF(arch), 0o644))
			},
			"checkpoint": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(searchtest.TinyCheckpoint(ts.MkAbs(args[0])))
			},
			"store": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(
					searchtest.PutInStore(
						ts.Getenv("OLLAMA_MODELS"),
						args[0],
						[]byte(ts.ReadFile(args[1])),
					),
				)
			},
			"lines": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[1])
				ts.Check(err)
				for range 1000 {
					b, _ := os.ReadFile(ts.MkAbs(args[0]))
					if bytes.Count(b, []byte("\n")) >= want {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				ts.Fatalf("%s has no %d lines after 10 s", args[0], want)
			},
			"nats": func(ts *testscript.TestScript, _ bool, args []string) {
				ns, err := server.NewServer(&server.Options{
					Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: args[1],
					JetStream: true, StoreDir: ts.MkAbs("nats"), NoLog: true, NoSigs: true,
				})
				ts.Check(err)
				go ns.Start()
				ts.Defer(ns.Shutdown)
				if !ns.ReadyForConnections(10 * time.Second) {
					ts.Fatalf("the NATS server does not start")
				}
				ts.Setenv(args[0], ns.ClientURL())
			},
			"json": func(ts *testscript.TestScript, neg bool, args []string) {
				var v map[string]json.RawMessage
				if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &v); err != nil {
					ts.Fatalf("%s: %v", args[0], err)
				}
				got, ok := v[args[1]]
				if ok == neg {
					ts.Fatalf("%s has key %s: %v", args[0], args[1], ok)
				}
				if len(args) > 2 && string(got) != args[2] {
					ts.Fatalf("%s: %s is %s, want %s", args[0], args[1], got, args[2])
				}
			},
		},
	})
}
