// Ollama with LongRoPE: the host's own command line, and beside it
// "ollama longrope search | convert | eval | show".
package main

import (
	"context"

	"github.com/ollama/ollama/cmd"
	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/longrope"
)

func main() {
	root := cmd.NewCLI()
	root.AddCommand(longrope.NewCommand())
	cobra.CheckErr(root.ExecuteContext(context.Background()))
}
