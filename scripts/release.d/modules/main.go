// Writes a module of this repository as a module proxy serves it: its zip, go.mod and info. The zip
// package enforces what Go demands of one; a module without a licence gets the repository's.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: modules REPOSITORY FOLDER VERSION TIME OUT")
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		log.Fatal("go: ", err)
	}
}

// write puts the module in folder at HEAD into out. The time is that of the commit, as in RFC 3339.
func write(repository, folder, version, committed, out string) error {
	manifest, err := os.ReadFile(filepath.Join(repository, folder, "go.mod"))
	if err != nil {
		return err
	}
	path := modfile.ModulePath(manifest)
	if err := module.Check(path, version); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, committed)
	if err != nil {
		return err
	}
	versions := filepath.Join(out, path, "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(versions, version+".zip"))
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := zip.CreateFromVCS(archive, module.Version{Path: path, Version: version}, repository, "HEAD", folder); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`+"\n", version, at.UTC().Format(time.RFC3339))
	for name, text := range map[string]string{
		version + ".info": info,
		version + ".mod":  string(manifest),
		"list":            version + "\n",
	} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
