"""The methods of `BatchNorm` that open layers of frameworks, and make them; `bridges` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnstream.batchnorm import BatchNorm


class Exchange:
    """A framework is imported when one of its methods is called."""

    @staticmethod
    def from_torch(layer: Any, **settings: Any) -> BatchNorm:
        """The same layer as one of PyTorch, in the same mode.

        Parameters
        ----------
        layer : torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm
            Of any device, with running statistics.
        **settings
            For `BatchNorm`, before what the layer says: channel_axis, names, momentum, ...

        Returns
        -------
        BatchNorm
            In the layer's dtype, with copies of its arrays.

        Raises
        ------
        ModuleNotFoundError, TypeError, ValueError
            If PyTorch is missing, or `layer` is something else, or has no running statistics.

        Notes
        -----
        With ``momentum=None`` PyTorch averages the means and variances of batches, and here they are of all values
        together: such averages serve inference; the next batch in training starts anew, the count of batches, too.

        Examples
        --------
        >>> import bnstream, torch
        >>> bn = bnstream.BatchNorm.from_torch(torch.nn.BatchNorm2d(3, momentum=0.2).eval())
        >>> bn.momentum, bn.training
        (0.2, False)
        """
        from bnstream.bridges import from_torch

        return from_torch(layer, settings)

    def to_torch(self: Any, ndim: int = 4) -> Any:
        """The same layer for PyTorch, in the same mode.

        Parameters
        ----------
        ndim : int, default 4
            The dimensions of x, which say which layer: 2 or 3 BatchNorm1d, 4 BatchNorm2d, 5 BatchNorm3d.

        Returns
        -------
        torch.nn.Module
            In the dtype of this layer, running statistics, too, which are float64 here.

        Raises
        ------
        ModuleNotFoundError, ValueError
            If PyTorch is missing or has no such layer: another `channel_axis` than 1, or `renorm`.

        Notes
        -----
        `nan_policy`, `names` and the pooled statistics stay behind. PyTorch's variance has ddof 1: exactly so where it
        was made from pooled statistics, else it goes on from what it is.

        Examples
        --------
        >>> import bnstream, torch
        >>> bnstream.BatchNorm(3).to_torch(ndim=2)(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
        """
        from bnstream.bridges import to_torch

        return to_torch(self, ndim)

    @staticmethod
    def from_keras(layer: Any, **settings: Any) -> BatchNorm:
        """The same layer as one of Keras.

        Parameters
        ----------
        layer : keras.layers.BatchNormalization
            Of Keras 3, with any backend; built.
        **settings
            For `BatchNorm`, before what the layer says: names, nan_policy, ...

        Returns
        -------
        BatchNorm
            In the layer's dtype, with copies of its arrays and its axis; in training mode, as Keras takes the mode with
            each call, but in inference mode if the layer is frozen by ``trainable=False``.

        Raises
        ------
        ModuleNotFoundError, TypeError, ValueError
            If Keras is missing, or `layer` is something else, or not built, or has ``renorm=True``.

        Examples
        --------
        >>> import bnstream, keras
        >>> layer = keras.layers.BatchNormalization(momentum=0.9)
        >>> layer.build((None, 3))
        >>> bn = bnstream.BatchNorm.from_keras(layer)
        >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
        (0.1, 0.001, -1, 0)
        """
        from bnstream.bridges import from_keras

        return from_keras(layer, settings)

    def to_keras(self: Any, ndim: int = 4, **settings: Any) -> Any:
        """The same layer for Keras.

        Parameters
        ----------
        ndim : int, default 4
            The dimensions of x, by which Keras builds a layer.
        **settings
            For `keras.layers.BatchNormalization`, before what this layer says: name, synchronized, ...

        Returns
        -------
        keras.layers.BatchNormalization
            Built, in the dtype of this layer, running statistics, too, which are float64 here.

        Raises
        ------
        ModuleNotFoundError, ValueError
            If Keras is missing, or its layer cannot do this: `renorm`, or no axis `channel_axis` in `ndim` dimensions.

        Notes
        -----
        `nan_policy`, `names`, the mode, the count of batches and the pooled statistics stay behind; ``momentum=None``
        becomes Keras's default, 0.99. Keras's variance has ddof 0: exactly so where it was made from pooled statistics,
        else it goes on from what it is.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3, channel_axis=-1).to_keras(ndim=2, name="normalize").momentum
        0.9
        """
        from bnstream.bridges import to_keras

        return to_keras(self, ndim, settings)

    @staticmethod
    def from_flax(layer: Any, variables: Mapping[str, Any] | None = None, **settings: Any) -> BatchNorm:
        """The same layer as one of Flax, in the same mode.

        Parameters
        ----------
        layer : flax.nnx.BatchNorm or flax.linen.BatchNorm
            Of NNX it holds its arrays. Of Linen it holds the settings alone.
        variables : mapping, optional
            Of this one layer, for Linen: ``{"params": ..., "batch_stats": ...}``. A bound module has them.
        **settings
            For `BatchNorm`, before what the layer says: names, nan_policy, ...

        Returns
        -------
        BatchNorm
            In the dtype of the layer's parameters, with copies of its arrays and its axis; in inference mode where
            ``use_running_average=True``.

        Raises
        ------
        ModuleNotFoundError, TypeError, ValueError
            If Flax is missing, or `layer` is something else, or `variables` are missing or those of a network.

        Examples
        --------
        >>> import bnstream
        >>> from flax import nnx
        >>> bn = bnstream.BatchNorm.from_flax(nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0)))
        >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
        (0.1, 1e-05, -1, 0)
        """
        from bnstream.bridges import from_flax

        return from_flax(layer, variables, settings)

    def to_flax(self: Any, linen: bool = False, **settings: Any) -> Any:
        """The same layer for Flax.

        Parameters
        ----------
        linen : bool, default False
            Make one of Linen instead of NNX.
        **settings
            For Flax's layer, before what this one says: dtype, axis_name, use_running_average, ...

        Returns
        -------
        flax.nnx.BatchNorm, or with `linen` a flax.linen.BatchNorm and its variables
            Parameters in the dtype of this layer; running statistics in float32, as ever in Flax, float64 here. In the
            same mode, but for Linen, which takes it with each call.

        Raises
        ------
        ModuleNotFoundError, ValueError
            If Flax is missing, or has no such layer: `renorm`.

        Notes
        -----
        `nan_policy`, `names`, the count of batches and the pooled statistics stay behind; ``momentum=None`` becomes
        Flax's default, 0.99. Flax's variance has ddof 0: exactly so where it was made from pooled statistics, else it
        goes on from what it is. JAX has float64 with jax_enable_x64 alone.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> layer, variables = bnstream.BatchNorm(3, channel_axis=-1).to_flax(linen=True)
        >>> layer.apply(variables, np.ones((2, 3)), use_running_average=True).shape
        (2, 3)
        """
        from bnstream.bridges import to_flax

        return to_flax(self, linen, settings)

    @staticmethod
    def from_onnx(model: Any, node: str | None = None, **settings: Any) -> BatchNorm:
        """The same layer as a node BatchNormalization of ONNX.

        Parameters
        ----------
        model : onnx.ModelProto, str or path-like
            Or the path of one.
        node : str, optional
            The name of the node, or that of its output; needed where the main graph has several.
        **settings
            For `BatchNorm`, before what the node says: names, channel_axis, ...

        Returns
        -------
        BatchNorm
            In the dtype of the node's scale; in inference mode, unless ``training_mode=1``.

        Raises
        ------
        ModuleNotFoundError, TypeError, ValueError
            If onnx is missing, `model` is something else, there is no such node, or its arrays are computed.

        Examples
        --------
        >>> import bnstream
        >>> model = bnstream.BatchNorm(3, momentum=0.2).to_onnx()
        >>> bnstream.BatchNorm.from_onnx(model).momentum
        0.2
        """
        from bnstream.bridges import from_onnx

        return from_onnx(model, node, settings)

    def to_onnx(self: Any, ndim: int = 4) -> Any:
        """A model of ONNX that does this layer's inference, in one node BatchNormalization.

        Parameters
        ----------
        ndim : int, default 4
            The dimensions of x.

        Returns
        -------
        onnx.ModelProto
            From X to Y, with the arrays as initializers, all in the dtype of this layer, running statistics, too, which
            are float64 here; of opset 15. ``onnx.save`` writes it, ``onnx.compose.merge_models`` puts it into another.

        Raises
        ------
        ModuleNotFoundError, ValueError
            If onnx is missing, or its operator cannot do this: another `channel_axis` than 1.

        Notes
        -----
        eps and momentum are float32 in ONNX. Whatever has no part in inference stays behind, but momentum. ONNX's
        variance has ddof 0: exactly so where it was made from pooled statistics, else it is passed on as it is.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).to_onnx(ndim=2).graph.node[0].op_type
        'BatchNormalization'
        """
        from bnstream.bridges import to_onnx

        return to_onnx(self, ndim)
