#include "prepare/copy_task.h"

#include <cmath>
#include <vector>

#include "common/error.h"
#include "prepare/request.h"
#include "prepare/workplace.h"
#include "task/task.h"

namespace autoresearch {
namespace {

void share_file(const fs::path& from, const fs::path& to) {
  std::error_code refused;
  fs::create_hard_link(from, to, refused);
  if (refused) copy_file_cheaply(from, to);
}

}  // namespace

void copy_task(const fs::path& from, const std::string& name, double time_budget) {
  check_task_name(name);
  check_budget(time_budget);
  TaskInfo info = load_task(from);
  check_whole(from, info);
  const fs::path to = data_dir() / name;
  const TaskLock lock(to);
  check(!fs::exists(to), to.string() + " exists; give --as another name");

  Workplace workplace(to);
  std::vector<fs::path> files = {"tokenizer.tiktoken", "heldout/val.bin", "heldout/test.bin"};
  for (const fs::path& shard : train_shards(from, info))
    files.push_back("train" / shard.filename());
  for (const fs::path& file : files) share_file(from / file, workplace.path() / file);
  info.name = name;
  info.time_budget = time_budget;
  write_file(workplace.path() / "task.json", to_json(info));
  workplace.publish();
}

}  // namespace autoresearch
