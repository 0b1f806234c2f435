"""The names of all figures: one table with title, unit and which direction is better.

    describe("cfid").unit               # "Fréchet distance of samples and test"
    describe("cfid").good               # "low": less is better; "high"; None where neither is

Steps and scores return {name: number}. Logs, tables and plots look a name up here and print it alike.
"""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

__all__ = ["NAMES", "Metric", "UnknownMetric", "describe"]

Good = Literal["low", "high"] | None


class Metric(NamedTuple):
    """What a figure is called: key, title for people, unit, and the better direction (None: neither).

    `headline`: whether a table of all recipes shows it.
    """

    name: str
    title: str
    unit: str
    good: Good
    headline: bool = False


class UnknownMetric(KeyError):
    """A name that the table lacks."""

    def __str__(self) -> str:  # KeyError prints its message in quotes
        return str(self.args[0])


_TABLE = [
    # reconstruction and likelihood
    Metric("mse", "squared error", "squared error per pixel", "low", headline=True),
    Metric("loss", "loss", "nats per image", "low", headline=True),
    Metric("recon", "reconstruction", "nats per image", "low"),
    Metric("kl", "KL divergence", "nats per image", None),
    Metric("active", "active units", "latent dimensions in use", None),
    Metric("nll", "negative log-likelihood", "nats per image", "low"),
    Metric("bits_per_dim", "bits per dimension", "bits per dimension", "low"),
    Metric("penalty", "penalty", "as added to the loss", None),
    # what a penalty reaches
    Metric("weight_norm", "weight norm", "root of the sum of w^2", None),
    Metric("weight_sum", "sum of weights", "sum of |w|", None),
    Metric("near_zero", "codes near 0", "share, below 1 % of a unit's largest", "high"),
    Metric("dead", "dead units", "units that are 0 on every test image", "low"),
    Metric("jacobian", "Jacobian of the code", "mean squared norm", None),
    Metric("contraction", "contraction", "squared Jacobian by the code's variance", "low"),
    Metric("variation", "variation of reconstructions", "sum of |differences|, mean over images", None),
    Metric("variation_real", "variation of the images", "sum of |differences|, mean over images", None),
    Metric("mse_clean", "squared error, clean images", "squared error per pixel", "low"),
    Metric("mse_noise", "squared error, noise images", "squared error per pixel", None),
    Metric("gap", "gap of noise to clean images", "squared error per pixel", None),
    # classification
    Metric("accuracy", "accuracy", "share of images", "high", headline=True),
    # games
    Metric("d_loss", "loss of D", "as the game has it", None),
    Metric("g_loss", "loss of G", "as the game has it", None),
    Metric("d_real", "D on real images", "D(x)", None),
    Metric("d_fake", "D on samples", "D(G(z))", None),
    Metric("d_accuracy", "accuracy of D", "share judged right", None),
    Metric("d_grad", "gradient of D", "gradient norm", None),
    Metric("g_grad", "gradient of G", "gradient norm", None),
    Metric("e_grad", "gradient of E", "gradient norm", None),
    Metric("critic_estimate", "Wasserstein estimate", "mean f(x) - mean f(G(z))", None),
    Metric("gradient_norm", "gradient of the critic", "mean norm in x", None),
    Metric("gradient_norm_sd", "spread of the critic's gradient", "deviation of the norm in x", None),
    # growing
    Metric("alpha", "share of the new layers", "0 to 1", None),
    Metric("size", "size of the images", "pixels a side", None),
    # samples
    Metric("cfid", "C-FID", "Fréchet distance of samples and test", "low", headline=True),
    Metric("conf95", "confident samples", "share (real: .97 MNIST, .96 digits)", "high", headline=True),
    Metric("class_kl", "class KL", "nats, of class frequencies", "low"),
    Metric("digits", "digits present", "of 10 classes present", "high"),
    Metric("classes_covered", "classes covered", "classes with 1 % of the samples", "high"),
    Metric("gan_test", "GAN-test", "share of samples recognised as their class", "high", headline=True),
    Metric("gan_test_worst", "GAN-test, worst class", "share of its samples recognised", "high"),
    Metric("precision", "precision", "share of samples among real ones", "high"),
    Metric("recall", "recall", "share of real ones among samples", "high"),
    Metric("modes", "modes covered", "modes", "high", headline=True),
    Metric("within_3_sigma", "within 3 sigma of a mode", "share of samples", "high"),
    Metric("energy_distance", "energy distance", "in the points' unit", "low", headline=True),
    Metric("nyquist", "energy at the Nyquist frequency", "share of the samples' spectral energy", None),
    Metric("nyquist_real", "energy at the Nyquist frequency, real", "share of the images' spectral energy", None),
    # from noise to noise, by line and by great circle
    Metric("norm_line", "|z| in the middle of a line", "times that of its ends", None),
    Metric("norm_circle", "|z| in the middle of a great circle", "times that of its ends", None),
    Metric("conf95_line", "confident images in the middle of a line", "share", "high"),
    Metric("conf95_circle", "confident images in the middle of a great circle", "share", "high"),
    # pairs of images
    Metric("psnr", "PSNR", "dB, mean over images", "high", headline=True),
    Metric("psnr_noisy", "PSNR of noisy images", "dB", "high"),
    Metric("psnr_denoised", "PSNR, denoised", "dB", "high"),
    Metric("psnr_linear", "PSNR, best linear denoiser", "dB", "high"),
    Metric("psnr_blurred", "PSNR of blurred images", "dB", "high"),
    Metric("psnr_deblurred", "PSNR, deblurred", "dB", "high"),
    Metric("psnr_polynomial", "PSNR, best local polynomial", "dB", "high"),
    Metric("psnr_adaptive", "PSNR, adaptive neighbourhoods", "dB", "high"),
    Metric("psnr_wiener", "PSNR, Wiener filter", "dB", "high"),
    Metric("psnr_bilateral", "PSNR, bilateral filter", "dB", "high"),
    Metric("psnr_trained", "PSNR, trained denoiser", "dB", "high"),
    Metric("ssim", "SSIM", "similarity, at most 1", "high"),
    Metric("l1", "absolute error", "absolute error per value", "low"),
    Metric("content", "content", "as the loss has it", "low"),
    Metric("saturation", "saturation", "mean over images of their light, at most 1", None),
    # unpaired images
    Metric("cycle_l1", "forth and back", "absolute error per value", "low"),
    Metric("identity_l1", "what needs no change", "absolute error per value", "low"),
    Metric("change", "change by the refiner", "absolute difference per value", None),
    # sparse codes
    Metric("ista_gap", "ISTA above the optimum", "share of the optimum, last step", "low"),
    Metric("fista_gap", "FISTA above the optimum", "share of the optimum, last step", "low"),
    Metric("atoms_used", "atoms of a patch", "numbers of a code that are not 0", None),
    # ranking and retrieval
    Metric("auroc", "AUROC", "area under the ROC curve", "high"),
    Metric("auprc", "AUPRC", "average precision", "high"),
    Metric("P@1", "precision at 1", "share of queries", "high"),
    Metric("nearest_neighbour", "1-NN on codes", "share of queries", "high"),
    Metric("pixel_nearest_neighbour", "1-NN on pixels", "share of queries", "high"),
    Metric("codes", "codes to choose from", "training images", None),
    Metric("queries", "queries", "test images", None),
    Metric("logistic_regression", "logistic regression on codes", "share of queries", "high"),
    Metric("svm", "support vector machine on codes", "share of queries", "high"),
    Metric("fitted", "codes that these two learn from", "training images", None),
    # what an autoencoder does with images that it was not trained for
    Metric("foreign_noise", "error on uniform noise", "times the error on test images", None),
    Metric("foreign_upside_down", "error on images upside down", "times the error on test images", None),
    Metric("foreign_images", "error on another data set", "times the error on test images", None),
    # codes of several sizes
    Metric("mse_smallest_code", "squared error, smallest code", "squared error per pixel", "low"),
    Metric("mse_largest_code", "squared error, largest code", "squared error per pixel", "low"),
    Metric("pca_beaten", "codes better than PCA of their size", "share of sizes", "high"),
    # few labels, and more of them
    Metric("scratch_few", "from scratch, few labels", "accuracy, mean over draws", "high"),
    Metric("frozen_few", "frozen encoder, few labels", "accuracy, mean over draws", "high"),
    Metric("fine_tuned_few", "fine-tuned, few labels", "accuracy, mean over draws", "high"),
    Metric("gain_few", "gain of fine-tuning, few labels", "accuracy above from scratch", "high"),
    Metric("scratch_many", "from scratch, more labels", "accuracy, mean over draws", "high"),
    Metric("frozen_many", "frozen encoder, more labels", "accuracy, mean over draws", "high"),
    Metric("fine_tuned_many", "fine-tuned, more labels", "accuracy, mean over draws", "high"),
    Metric("gain_many", "gain of fine-tuning, more labels", "accuracy above from scratch", "high"),
    # few labels, and many images without
    Metric("supervised", "the network, labels alone", "accuracy, mean over draws", "high"),
    Metric("semi_supervised", "the network in the game", "accuracy, mean over draws", "high"),
    Metric("gain", "gain by the game", "accuracy above labels alone", "high"),
    # the decoder of an autoencoder as a generator
    Metric("cfid_standard_normal", "C-FID, z ~ N(0, I)", "Fréchet distance of samples and test", "low"),
    Metric("cfid_fitted_gaussian", "C-FID, z ~ Gaussian of the codes", "Fréchet distance of samples and test", "low"),
    Metric("cfid_vae", "C-FID of the VAE", "Fréchet distance of samples and test", "low"),
    Metric("cfid_ratio", "C-FID of N(0, I) by the VAE's", "ratio", None),
    Metric("samples", "samples", "number of each kind", None),
    Metric("R@10", "recall at 10", "share of queries", "high"),
    Metric("MAP@R", "mean average precision at R", "mean over queries", "high"),
    # samples beside real images, and what is learned from them
    Metric("mmd", "MMD", "squared, of features of samples and test", "low"),
    Metric("gan_train", "GAN-train", "accuracy of a net that learns from samples", "high"),
    Metric("cfid_real", "C-FID of training images", "Fréchet distance to the test", None),
    Metric("precision_real", "precision of training images", "share among test images", None),
    Metric("recall_real", "recall of training images", "share of test images among them", None),
    Metric("mmd_real", "MMD of training images", "squared, of features", None),
    Metric("gan_train_real", "GAN-train of training images", "accuracy of a net that learns from them", None),
    Metric("gan_test_real", "GAN-test of test images", "share recognised", None),
    Metric("precision_grey", "precision of grey images", "share among test images", None),
    Metric("cfid_gan", "C-FID of the fully connected GAN", "Fréchet distance of samples and test", "low"),
    Metric("cfid_dcgan", "C-FID of the DCGAN", "Fréchet distance of samples and test", "low"),
    Metric("augmented_alone", "few labels alone", "accuracy, mean over draws", "high"),
    Metric("augmented_own", "with samples of a GAN of the few", "accuracy, mean over draws", "high"),
    Metric("augmented_all", "with samples of a GAN of all labels", "accuracy, mean over draws", "high"),
    Metric("gain_own", "gain by a GAN of the few", "accuracy above labels alone", "high"),
    Metric("gain_all", "gain by a GAN of all labels", "accuracy above labels alone", "high"),
    # spaces of codes
    Metric("rarest_digit", "rarest digit", "share of the manifold", "high"),
    Metric("kl_reversed", "KL of the prior from q", "nats per image", None),
    Metric("variance_ratio", "variance of the k-sample estimate", "k draws of z against one", "low"),
    # spaces of noise: arithmetic
    Metric("arithmetic", "arithmetic", "share of trials with the digit and the colour", "high"),
    Metric("arithmetic_digit", "arithmetic, the digit", "share of trials", "high"),
    Metric("arithmetic_hue", "arithmetic, the colour", "share of trials", "high"),
    Metric("arithmetic_around", "arithmetic, with noise", "share of samples around the results", "high"),
    Metric("arithmetic_chance", "random noise", "share with the digit and the colour of a trial", None),
    Metric("trials", "trials", "number of them", None),
    Metric("least_confident", "least confident sample of an average", "probability of its digit", "high"),
    # spaces of noise: turns, chains, planes
    Metric("slant_first", "slant, first of a walk", "columns to the right for a row up", None),
    Metric("slant_last", "slant, last of a walk", "columns to the right for a row up", None),
    Metric("slant_natural", "slant of samples", "columns to the right, their deviation", None),
    Metric("turned", "turned right", "share of walks whose slant grows", "high"),
    Metric("turn_kept", "digits kept along a turn", "share of walks with one digit at both ends", "high"),
    Metric("least_norm_line", "least norm on lines", "times the mean norm of the chain's points", None),
    Metric("least_norm_circle", "least norm on great circles", "times the mean norm of the chain's points", None),
    Metric("conf95_lines", "confident samples, lines", "share", "high"),
    Metric("conf95_circles", "confident samples, great circles", "share", "high"),
    Metric("change_line", "change of neighbours, lines", "squared difference, by that of any two", "low"),
    Metric("change_circle", "change of neighbours, great circles", "squared difference, by that of any two", "low"),
    Metric("change_plane", "change of neighbours, plane", "squared difference, by that of any two", "low"),
    Metric("conf95_plane", "confident samples, plane", "share", "high"),
    # the generator as a prior
    Metric("inverted_mse", "inversion by L-BFGS", "squared error per pixel", "low"),
    Metric("inverted_mse_adam", "inversion by Adam", "squared error per pixel", "low"),
    Metric("sampled_mse", "nearest of as many samples", "squared error per pixel", "low"),
    Metric("hole_mse", "hidden pixels, restored", "squared error per pixel of the hole", "low"),
    Metric("hole_mse_averaged", "hidden half, mean of all starts", "squared error per pixel of the hole", "low"),
    Metric("hole_mse_mean", "hidden half, mean of training images", "squared error per pixel of the hole", "low"),
    Metric("hole_mse_inverted", "hidden half, the whole image known", "squared error per pixel of the hole", "low"),
    Metric("auroc_turned", "AUROC, images upside down", "area under the ROC curve", "high"),
    # anomalies
    Metric("auroc_prior", "AUROC, density of N(0, I)", "area under the ROC curve", "high"),
    Metric("auroc_gaussian", "AUROC, Gaussian of the codes", "area under the ROC curve", "high"),
    Metric("auroc_mixture", "AUROC, mixture of Gaussians of the codes", "area under the ROC curve", "high"),
    Metric("auroc_discriminator", "AUROC, the discriminator", "area under the ROC curve", "high"),
    Metric("auroc_reconstruction", "AUROC, reconstruction by the BiGAN", "area under the ROC curve", "high"),
    Metric("auroc_feature_match", "AUROC, feature match", "area under the ROC curve", "high"),
    Metric("auroc_combined", "AUROC, reconstruction and feature match", "area under the ROC curve", "high"),
    Metric("auroc_pca", "AUROC, PCA", "area under the ROC curve", "high"),
    Metric("auroc_autoencoder", "AUROC, reconstruction by the autoencoder", "area under the ROC curve", "high"),
    Metric("auroc_vae", "AUROC, reconstruction by the VAE", "area under the ROC curve", "high"),
    Metric("auroc_inversion", "AUROC, search for codes", "area under the ROC curve, of some test images", "high"),
    Metric("auroc_above_pca", "AUROC, reconstruction and feature match above PCA", "difference of areas", "high"),
    Metric("auprc_combined", "AUPRC, reconstruction and feature match", "average precision", "high"),
    Metric("auprc_pca", "AUPRC, PCA", "average precision", "high"),
    Metric("code_error", "E(G(z)) beside z", "squared error per number, 1 for E = 0", "low"),
    Metric("code_1nn", "1-NN on E", "share of test images, among themselves", "high", headline=True),
    Metric("pixel_auroc", "pixel AUROC", "area under the ROC curve, over pixels", "high", headline=True),
    Metric("pixel_auroc_judged", "pixel AUROC, the discriminator", "area under the ROC curve, over pixels", "high"),
    Metric("pixel_auroc_error", "pixel AUROC, reconstruction", "area under the ROC curve, over pixels", "high"),
    Metric("pixel_auroc_pca", "pixel AUROC, PCA of squares", "area under the ROC curve, over pixels", "high"),
    Metric("false_alarms", "false alarms", "share of pixels of test images without a defect", "low"),
    Metric("defects_found", "defects found", "share of their pixels", "high"),
    Metric("multiplications_once", "multiplications, at once", "per pixel", "low"),
    Metric("multiplications_patches", "multiplications, patch by patch", "per pixel", None),
    Metric("patches_apart", "patch by patch beside at once", "largest difference of a score", "low"),
    # textures of any size
    Metric("spectrum_error", "spectrum error", "share of the test images' power", "low"),
    Metric("spectrum_error_4x", "spectrum error, 4 x area", "share of the test images' power", "low", headline=True),
    Metric("spectrum_learned", "spectrum error, training", "share of the training images' power", "low"),
    Metric("spectrum_learned_4x", "spectrum error, training, 4 x area", "share of the training images' power", "low"),
    Metric("spectrum_real", "spectrum error, real training images", "share of the test images' power", None),
    # images from images
    Metric("psnr_bicubic", "PSNR, bicubic", "dB, mean over images", "high"),
    Metric("psnr_srresnet", "PSNR, SRResNet", "dB, mean over images", "high"),
    Metric("psnr_srgan", "PSNR, SRGAN", "dB, mean over images", "high"),
    Metric("srgan_above_bicubic", "PSNR of SRGAN above bicubic", "dB", None),
    Metric("cfid_srresnet", "C-FID, SRResNet", "Fréchet distance to the test images", "low"),
    Metric("cfid_srgan", "C-FID, SRGAN", "Fréchet distance to the test images", "low"),
    Metric("cfid_drop", "C-FID of SRGAN below SRResNet's", "share of it", "high"),
    Metric("share_of_z", "variance by noise", "share of the variance over x and z", None),
    Metric("deviation_of_z", "deviation by noise", "of a value, mean over values and images", None),
    Metric("translation_l1", "translated beside changed", "absolute error per value", "low"),
    Metric("untranslated_l1", "as they are beside changed", "absolute error per value", None),
    Metric("slant_x", "slant of x", "columns to the right for a row up, mean", None),
    Metric("slant_translated", "slant of G(x)", "columns to the right for a row up, mean", None),
    Metric("slant_changed", "slant of x, changed", "columns to the right for a row up, mean", None),
    Metric("kept_forth", "digits kept, G", "share recognised, changed back", "high"),
    Metric("kept_back", "digits kept, F", "share recognised", "high"),
    Metric("kept", "digits kept, both ways", "share recognised", "high"),
    Metric("kept_untranslated", "the same, of images as they are", "share recognised", None),
    Metric("kept_real", "digits as they are", "share recognised", None),
    Metric("learned_from_drawn", "learned from drawn digits", "accuracy on real ones, mean over draws", "high"),
    Metric("learned_from_refined", "learned from refined digits", "accuracy on real ones, mean over draws", "high"),
    Metric("learned_from_real", "learned from real digits", "accuracy on others, mean over draws", "high"),
    Metric("gain_refined", "gain by refining", "accuracy above drawn digits", "high"),
    Metric("labels_kept", "labels kept by refining", "share, by a network of drawn digits", "high"),
    Metric("recognised_refined", "refined digits recognised", "share, by a network of real digits", "high"),
    Metric("recognised_drawn", "drawn digits recognised", "share, by a network of real digits", None),
    # theory
    Metric("forward_kl", "least KL(p || q)", "nats", "low"),
    Metric("reverse_kl", "least KL(q || p)", "nats", "low"),
    Metric("js", "least JS(p, q)", "nats", "low"),
    Metric("outside", "over-generalisation", "mass of the forward fit off the target", None),
    Metric("log_p", "log evidence", "nats", None),
    Metric("elbo", "ELBO", "nats, q the prior", None),
    Metric("k_sample_bound", "k-sample bound", "nats, q the prior, the largest k", None),
    Metric("prior", "prior", "probability of rain", None),
    Metric("marginal", "marginal", "probability that the student is there", None),
    Metric("posterior", "posterior, where present", "probability of rain, the student being there", None),
    Metric("posterior_absent", "posterior, where absent", "probability of rain, the student being absent", None),
    # the theory of games
    Metric("outcome_error", "largest |D - D*|, two outcomes", "probability", "low"),
    Metric("density_error", "largest |D - D*|, densities", "probability, where p or q has mass", "low"),
    Metric("half_error", "largest |D - 1/2|", "probability, where p or q has mass", "low"),
    Metric("js_outcomes", "JS of two outcomes", "nats", None),
    Metric("value_outcomes", "V at D*, two outcomes", "nats", None),
    Metric("value_equal", "V at D* where q = p", "nats, -log 4", None),
    Metric("game_value", "V where training ends", "nats, -log 4 at the equilibrium", None),
    Metric("critic_r", "critic with penalty against W", "correlation over pairs of laws", "high"),
    Metric("critic_error", "largest error of that critic", "share of W", "low"),
    Metric("clipped_r", "clipped critic against W", "correlation over pairs of laws", "high"),
    Metric("clipped_shift_r", "clipped critic against W, shifts", "correlation over shifts alone", "high"),
    Metric("dirac_error", "linear critic of two points", "largest error, W = |theta|", "low"),
    Metric("gradient_ratio_minimax", "gradients of G, minimax training", "ratio, mean over updates", None),
    Metric("gradient_ratio_non_saturating", "gradients of G, non-saturating", "ratio, mean over updates", None),
    Metric("slope_minimax", "slope of log(1 - D) at logit -4", "per unit of the logit", None),
    Metric("slope_non_saturating", "slope of -log D at logit -4", "per unit of the logit", None),
    # trials of games
    Metric("better", "hacks that help", "figures better than the baseline's spread", None),
    Metric("worse", "hacks that do harm", "figures worse than the baseline's spread", None),
    Metric("no_effect", "hacks without effect", "figures within the baseline's spread", None),
    Metric("modes_minimax", "modes of the minimax game", "modes, mean over seeds", "high"),
    Metric("modes_non_saturating", "modes of the non-saturating game", "modes, mean over seeds", "high"),
    Metric("modes_wgan_gp", "modes of WGAN-GP", "modes, mean over seeds", "high"),
    Metric("modes_of_data", "modes of the data", "modes", None),
    Metric("correlation_critic_estimate", "the critic's estimate and C-FID", "Pearson's r of logarithms", "high"),
    Metric("correlation_d_loss", "the loss of D and C-FID", "Pearson's r of logarithms", None),
    Metric("correlation_g_loss", "the loss of G and C-FID", "Pearson's r of logarithms", None),
    Metric("points", "looks that r is taken over", "pairs", None),
]
_SAMPLES = ("cfid", "conf95", "class_kl", "digits", "modes", "within_3_sigma", "energy_distance")
_TABLE += [  # the same figures of samples drawn with averaged weights
    metric._replace(name=f"{metric.name}_averaged", title=f"{metric.title}, averaged weights", headline=False)
    for metric in _TABLE
    if metric.name in _SAMPLES
]
_OBJECTIVES = ("unconditional", "conditional", "z", "l2", "l1")
_TABLE += [  # of the study colours
    Metric(f"{name}_{objective}", f"{title}, {objective}", unit, None)
    for name, title, unit in (
        ("saturation", "saturation", "mean over images"),
        ("hue_error", "error of the law of hues", "largest difference of a share"),
        ("brightness", "brightness", "by that of the truth"),
    )
    for objective in _OBJECTIVES
]
NAMES: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def describe(name: str) -> Metric:
    """The Metric of a name. Raises UnknownMetric (a KeyError) that suggests the nearest name."""
    if name in NAMES:
        return NAMES[name]
    near = difflib.get_close_matches(name, NAMES, 1, cutoff=0)
    table = "NAMES (tinygen/metrics/names.py)"
    raise UnknownMetric(f"no metric {name!r} in {table}; the nearest is {near[0]!r}. Add a line there for a new one")
