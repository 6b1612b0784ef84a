#include "common/git.h"

#include <cstdlib>

#include "common/error.h"
#include "common/process.h"

namespace autoresearch {
namespace {

using Words = std::vector<std::string>;

Words environment(const Git::Place& place) {
  Words env = scrubbed_environment();
  if (const char* xdg = std::getenv("XDG_CONFIG_HOME")) {
    env.push_back(std::string("XDG_CONFIG_HOME=") + xdg);
  }
  for (const char* who : {"AUTHOR", "COMMITTER"}) {
    env.push_back(std::string("GIT_") + who + "_NAME=autoresearch");
    env.push_back(std::string("GIT_") + who + "_EMAIL=autoresearch@localhost");
  }
  for (const char* setting :
       {"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1"}) {
    env.push_back(setting);
  }
  if (!place.users_config) {
    env.push_back("GIT_CONFIG_GLOBAL=/dev/null");
    env.push_back("GIT_CONFIG_SYSTEM=/dev/null");
  }
  if (!place.git_dir.empty()) env.push_back("GIT_DIR=" + place.git_dir.string());
  if (!place.work_tree.empty()) env.push_back("GIT_WORK_TREE=" + place.work_tree.string());
  if (!place.index.empty()) env.push_back("GIT_INDEX_FILE=" + place.index.string());
  return env;
}

Words configuration(const Git::Place& place) {
  Words words;
  for (const char* setting :
       {"core.hooksPath=/dev/null", "core.fsync=loose-object,reference", "core.fsyncMethod=fsync",
        "safe.directory=*", "commit.gpgsign=false", "gc.auto=0", "core.fsmonitor=false",
        "core.untrackedCache=false", "core.splitIndex=false", "protocol.allow=never"}) {
    words.insert(words.end(), {"-c", setting});
  }
  // Whether a file is changed is the user's configuration to say: a CRLF file that autocrlf made is
  // not. Everything that is stored is stored without conversion.
  if (!place.users_config) words.insert(words.end(), {"-c", "core.autocrlf=false"});
  return words;
}

}  // namespace

Git::Reply Git::ask(const Words& args, const std::string& input) const {
  Command command;
  command.argv = {"git"};
  const Words config = configuration(place_);
  command.argv.insert(command.argv.end(), config.begin(), config.end());
  command.argv.insert(command.argv.end(), args.begin(), args.end());
  command.env = environment(place_);
  command.cwd = place_.cwd;
  command.input = input;
  command.apart = true;
  command.finishes = true;
  command.limit = 3600;  // a first look at a large worktree on a network disk takes minutes
  Exit exit = run(command);
  check(exit.code != 127, "git was not found; install it: apt-get install -y git");
  return {exit.code, std::move(exit.output), std::move(exit.errors)};
}

std::string Git::must(const Words& args, const std::string& input) const {
  Reply reply = ask(args, input);
  if (reply.code == 0) return std::move(reply.out);
  const std::string where = (place_.git_dir.empty() ? place_.cwd : place_.git_dir).string();
  throw Error("git " + args[0] + " failed in " + where + ": " +
              reply.err.substr(0, reply.err.find('\n')) + "; check the repository: git -C '" +
              where + "' fsck");
}

}  // namespace autoresearch
