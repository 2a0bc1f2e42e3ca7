//go:build cgo

// Ollama with LongRoPE: the host's own command line, and in addition
// "ollama longrope search | convert | eval | show | extend | doctor | demo".
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ollama/ollama/cmd"
	"github.com/ollama/ollama/server"
	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/demo"
	"github.com/longrope/longrope/plugin/doctor"
	"github.com/longrope/longrope/plugin/longrope"
	"github.com/longrope/longrope/plugin/terminal"
)

func main() {
	if program, err := os.Executable(); err == nil {
		takeSettings(program)
	}
	extension := longrope.NewCommand()
	extension.AddCommand(doctor.NewCommand(), demo.NewCommand())

	server.Ladders = ladders{}
	root := cmd.NewCLI()
	root.AddCommand(extension)
	sayVersions(root)
	cobra.CheckErr(terminal.Error(root.ExecuteContext(context.Background())))
}

// sayVersions has --version say the version of this program next to that of the host.
func sayVersions(root *cobra.Command) {
	run := root.Run
	root.Run = func(cmd *cobra.Command, args []string) {
		run(cmd, args)
		if asked, _ := cmd.Flags().GetBool("version"); asked {
			fmt.Fprintln(cmd.OutOrStdout(), doctor.Versions())
		}
	}
}
