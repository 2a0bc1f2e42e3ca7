//go:build cgo

// Ollama with LongRoPE: the host's own command line, and in addition
// "ollama longrope search | convert | eval | show | extend | demo".
package main

import (
	"context"

	"github.com/ollama/ollama/cmd"
	"github.com/ollama/ollama/server"
	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/demo"
	"github.com/longrope/longrope/plugin/longrope"
)

func main() {
	extension := longrope.NewCommand()
	extension.AddCommand(demo.NewCommand())

	server.Ladders = ladders{}
	root := cmd.NewCLI()
	root.AddCommand(extension)
	cobra.CheckErr(root.ExecuteContext(context.Background()))
}
