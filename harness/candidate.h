// The one set of headers that train.cpp is compiled with, precompiled: ATen, custom autograd
// functions, autocast. A candidate's compile takes seconds because of it; torch/torch.h would
// triple that. The build includes this file ahead of train.cpp.
#ifndef AUTORESEARCH_HARNESS_CANDIDATE_H_  // no #pragma once: precompiled, it is a main file
#define AUTORESEARCH_HARNESS_CANDIDATE_H_

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#endif  // AUTORESEARCH_HARNESS_CANDIDATE_H_
