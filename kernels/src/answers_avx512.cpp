// Answers: the AVX-512 lane, eight rows at a time. Compiled with -mavx512f -mavx512dq and entered only after lane.cpp
// has asked.
#include "answers_block.hpp"

namespace penstock::avx512 {
namespace {

constexpr unsigned kWidth = 8;

#include "answers_vector.inl"

}  // namespace

const AnswerFunctions kAnswers{softmax, sigmoid, platt, normalize, rank};

}  // namespace penstock::avx512
